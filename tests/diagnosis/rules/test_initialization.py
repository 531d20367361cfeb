from dataclasses import replace

import pytest

from frostline.diagnosis.rules import initialization
from frostline.diagnosis.rules.loss_records import LossFacts
from frostline.diagnosis.rules.records import Evidence, InputFacts
from helpers_health import activations, by_layer, chain, losses, outcomes, record, records

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


@pytest.mark.parametrize(("last", "outcome"), [(10.1, "issue"), (9.9, "tip"), (4.1, "tip"), (3.9, "passed")])
def test_the_limits_of_the_last_layer(last, outcome):
    (finding,) = initialization.check(of_sizes(1.0, last))
    assert (finding.outcome, finding.measured, finding.limit) == (outcome, last, 10.0)
    if outcome != "passed":
        assert finding.why == (
            f"before the first step, the outputs of layer 'fc1' have a standard deviation of {last:.2g}."
        )
        assert "layers='fc1'" in finding.advice


@pytest.mark.parametrize(("first", "outcome"), [(20.2, "tip"), (19.8, "passed"), (0.202, "passed"), (0.198, "tip")])
def test_the_limits_of_the_first_layer(first, outcome):
    inputs = replace(INPUT, widest=2.0)
    (finding,) = initialization.check(of_sizes(first, 1.0, inputs=inputs))
    assert finding.outcome == outcome
    if outcome == "tip":
        assert (finding.layer, finding.measured, finding.limit) == ("fc0", first / 2, 10.0)
        assert finding.why == f"the outputs of layer 'fc0' are {first / 2:.2g} times as large as its inputs."
    layers = (*activations("relu"), *chain(2))
    behind = Evidence(layers, records(**by_layer("deviation", first, 1.0)), inputs=inputs)
    assert outcomes(initialization, behind) == ["passed"]  # what comes before it is not looked at


def test_both_ends_are_told_and_later_steps_are_not_judged():
    both = of_sizes(100.0, 100.0, inputs=INPUT)
    assert outcomes(initialization, both) == ["issue", "tip"]
    later = Evidence(chain(2), (record(5, fc0={"deviation": 1.0}, fc1={"deviation": 100.0}),))
    assert outcomes(initialization, later) == ["not applicable"]
    silent = of_sizes(0.0, 1.0, inputs=INPUT)
    assert outcomes(initialization, silent) == ["passed"]


@pytest.mark.parametrize("size", [0.01, 50.0])
def test_states_of_a_recurrent_layer_are_not_compared_with_its_inputs(size):
    recurrent = replace(of_sizes(size, 1.0, inputs=INPUT), layers=(*chain(2, "recurrent")[:1], *chain(2)[1:]))
    assert outcomes(initialization, recurrent) == ["passed"]
    assert outcomes(initialization, of_sizes(size, 1.0, inputs=INPUT)) == ["tip"]


@pytest.mark.parametrize(("first", "outcome"), [(23.0, "tip"), (2.5, "not applicable")])
def test_a_loss_that_begins_far_above_the_baseline(first, outcome):
    evidence = Evidence(loss=LossFacts("classes"), losses=losses(first, 2.0), level=2.3)
    (finding,) = initialization.check(evidence)
    assert finding.outcome == outcome
    if outcome == "tip":
        assert "the loss begins at 23, 10 times that" in finding.why
        assert "std=0.02" in finding.advice
    assert outcomes(initialization, replace(evidence, loss=LossFacts("values"))) == ["not applicable"]
