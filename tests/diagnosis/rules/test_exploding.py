from dataclasses import replace

import pytest

from frostline.diagnosis.rules import exploding
from frostline.diagnosis.rules.records import Evidence, StepRecord
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


@pytest.mark.parametrize(
    ("largest", "outcome"), [(31.0, "issue"), (29.0, "tip"), (4.1, "tip"), (3.9, "passed"), (1.0, "passed")]
)
def test_the_limits(largest, outcome):
    (finding,) = exploding.check(of_sizes(1.0, 0.5, largest, 1.0))
    assert (finding.outcome, finding.limit) == (outcome, 30.0)
    assert finding.measured == pytest.approx(largest)


def test_outputs_that_grow_with_the_steps_want_smaller_steps():
    grown = tuple(record(at, fc0={"deviation": 1.0}, fc1={"deviation": 10.0 if at else 1.0}) for at in range(6))
    (finding,) = exploding.check(Evidence(chain(3), grown))
    assert finding.why == (
        "the standard deviation of the outputs grows from 1 in layer 'fc0' to 10 in layer 'fc1' "
        "(1 before the first step)."
    )
    assert finding.advice == "divide the learning rate by 10: the outputs grew while training."
    (finding,) = exploding.check(of_sizes(1.0, 10.0, 1.0))
    assert finding.why == ("the standard deviation of the outputs grows from 1 in layer 'fc0' to 10 in layer 'fc1'.")
    assert finding.advice.startswith("if no layer is trained yet")


def test_only_the_first_steps_count():
    late = tuple(record(at, fc0={"deviation": 1.0}, fc1={"deviation": 100.0 if at > 4 else 1.0}) for at in range(20))
    assert outcomes(exploding, Evidence(chain(3), late)) == ["passed"]


@pytest.mark.parametrize(("norm", "outcome"), [(61.0, "issue"), (59.0, "tip"), (6.1, "tip"), (5.9, "passed")])
def test_a_recurrent_layer_beside_others_is_judged_by_the_largest_gradient(norm, outcome):
    layers = (*chain(2)[:1], *chain(3, "recurrent")[1:])
    rows = tuple(
        record(at, fc0={"deviation": 1.0}, fc1={"gradient_norm": norm if at == 3 else 0.1, "weight_norm": 2.0})
        for at in range(6)
    )
    (finding,) = exploding.check(Evidence(layers, rows))
    assert finding.outcome == outcome
    if outcome != "passed":
        assert (finding.layer, finding.measured, finding.limit) == ("fc1", norm / 2, 30.0)
        assert finding.advice.startswith("clip between backward() and optimizer.step()")
        assert finding.why == f"the gradient norm of layer 'fc1' reaches {norm / 2:.2g} times its weight norm."


def test_a_network_of_one_layer_has_nothing_that_can_grow():
    assert outcomes(exploding, of_sizes(1.0)) == ["not applicable"]


def test_outputs_that_start_at_zero_are_no_measure():
    evidence = of_sizes(1e-4, 1.0, 1.0)
    layers = tuple(replace(layer, starts_at_zero=layer.order == 0) for layer in evidence.layers)
    assert outcomes(exploding, evidence) == ["issue"]
    assert outcomes(exploding, replace(evidence, layers=layers)) == ["passed"]
