import pytest

from frostline.health.records import Evidence, StepRecord
from frostline.health.rules import exploding
from helpers_health import by_layer, chain, outcomes, record, records


def of_sizes(*sizes):
    return Evidence(chain(len(sizes)), records(**by_layer("deviation", *sizes)))


@pytest.mark.parametrize(("largest", "outcome"), [(100.0, "issue"), (10.0, "tip")])
def test_it_fires(largest, outcome):
    evidence = of_sizes(1.0, 3.0, largest, 1.0)
    assert outcomes(exploding, evidence) == [outcome]
    assert exploding.check(evidence)[0].layer == "fc2"


def test_it_stays_quiet():
    assert outcomes(exploding, of_sizes(1.0, 1.2, 0.8, 1.0)) == ["passed"]
    assert outcomes(exploding, of_sizes(1.0, 1.2, 0.8, 1000.0)) == ["passed"]  # the output layer is the loss's affair


@pytest.mark.parametrize(("norm", "outcome"), [(100.0, "issue"), (8.0, "tip"), (1.0, "not judged")])
def test_recurrent_gradients_are_judged_by_their_size(norm, outcome):
    numbers = {"fc0": {"gradient_norm": norm, "weight_norm": 1.0}}
    assert outcomes(exploding, Evidence(chain(2, "recurrent"), records(**numbers))) == [outcome]


def test_a_frozen_recurrent_layer_is_not_judged():
    numbers = {"fc0": {"gradient_norm": 100.0, "weight_norm": 1.0}}
    layers = chain(2, "recurrent", is_frozen=True)
    assert outcomes(exploding, Evidence(layers, records(**numbers))) == ["not judged"]


def test_it_does_not_apply():
    assert outcomes(exploding, Evidence(chain(), records())) == ["not judged"]
    blown = (StepRecord(0, None, float("inf"), record(fc0={"deviation": 1.0}).layers),)
    assert outcomes(exploding, Evidence(chain(), blown)) == ["not judged"]
