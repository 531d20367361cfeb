import pytest

from frostline.health.records import Evidence
from frostline.health.rules import dead_units
from helpers_health import activations, outcomes, record, records


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
