import pytest

from frostline.diagnosis.rules import dead_units
from frostline.diagnosis.rules.records import Evidence
from helpers_health import activations, by_layer, chain, outcomes, record, records


def judged(*shares):
    numbers = {f"act{at}": {"dead": share} for at, share in enumerate(shares)}
    return Evidence(activations(*["relu"] * len(shares)), records(**numbers))


@pytest.mark.parametrize(("share", "outcome"), [(0.9, "issue"), (0.3, "tip")])
def test_it_fires(share, outcome):
    evidence = judged(0.0, share)
    assert outcomes(dead_units, evidence) == [outcome]
    assert dead_units.check(evidence)[0].layer == "act1"


def test_it_stays_quiet():
    assert outcomes(dead_units, judged(0.1, 0.0)) == ["passed"]


def test_only_the_last_steps_count():
    revived = tuple(record(at, act0={"dead": 1.0 if at < 5 else 0.0}) for at in range(12))
    assert outcomes(dead_units, Evidence(activations("relu"), revived)) == ["passed"]


def test_it_does_not_apply():
    evidence = Evidence(activations("tanh"), records(act0={"saturated": 0.0}))
    assert outcomes(dead_units, evidence) == ["not applicable"]


@pytest.mark.parametrize(("share", "outcome"), [(0.51, "issue"), (0.49, "tip"), (0.21, "tip"), (0.19, "passed")])
def test_the_limits(share, outcome):
    assert outcomes(dead_units, judged(share)) == [outcome]


def test_units_that_died_while_training_are_told_from_those_that_started_dead():
    grown = tuple(record(at, act0={"dead": 0.1 + 0.1 * min(at, 5)}) for at in range(12))
    (finding,) = dead_units.check(Evidence(activations("relu"), grown))
    assert (finding.outcome, finding.measured, finding.limit) == ("issue", pytest.approx(0.6), 0.5)
    assert (
        finding.why
        == "60% of the units of layer 'act0' were zero for every sample in the measured batches, 10% at the first step."
    )
    (finding,) = dead_units.check(judged(0.0, 0.4))
    assert finding.why == "40% of the units of layer 'act1' were zero for every sample in the measured batches."
    (passed,) = dead_units.check(judged(0.05, 0.1))
    assert passed.why == "at most 10% of the units of a layer were zero for every sample."


def test_functions_cannot_be_looked_at():
    assert outcomes(dead_units, Evidence(chain(3), records(**by_layer("deviation", 1.0, 1.0, 1.0)))) == ["not judged"]
    assert outcomes(dead_units, Evidence(chain(1), records())) == ["not applicable"]
