import pytest

from frostline.health.records import Evidence, InputFacts
from frostline.health.rules import initialization
from helpers_health import by_layer, chain, outcomes, records

INPUT = InputFacts(0.0, 1.0, 3.0, 1.0, 0.1, 1.0, False, 1.0)


def of_sizes(*sizes, inputs=None):
    return Evidence(chain(len(sizes)), records(**by_layer("deviation", *sizes)), inputs=inputs)


@pytest.mark.parametrize(("last", "outcome"), [(50.0, "issue"), (6.0, "tip")])
def test_it_fires(last, outcome):
    assert outcomes(initialization, of_sizes(1.0, 1.0, last)) == [outcome]


@pytest.mark.parametrize("first", [100.0, 0.001])
def test_a_first_layer_of_another_size_than_its_input_is_told(first):
    evidence = of_sizes(first, 1.0, 1.0, inputs=INPUT)
    assert outcomes(initialization, evidence) == ["tip"]
    assert initialization.check(evidence)[0].layer == "fc0"


def test_it_stays_quiet():
    assert outcomes(initialization, of_sizes(1.0, 1.0, 0.3, inputs=INPUT)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(initialization, of_sizes(1.0)) == ["not applicable"]
    assert outcomes(initialization, Evidence(chain())) == ["not applicable"]
