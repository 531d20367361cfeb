import pytest

from frostline.health.records import Evidence
from frostline.health.rules import saturation
from helpers_health import activations, outcomes, record, records


def of(share, kind="tanh"):
    return Evidence(activations(kind), records(act0={"saturated": share}))


@pytest.mark.parametrize(("share", "outcome"), [(0.9, "issue"), (0.3, "tip")])
def test_it_fires(share, outcome):
    assert outcomes(saturation, of(share)) == [outcome]


def test_the_end_counts_as_the_start_does():
    grown = tuple(record(at, act0={"saturated": 0.0 if at < 5 else 0.9}) for at in range(12))
    assert outcomes(saturation, Evidence(activations("sigmoid"), grown)) == ["issue"]


def test_it_stays_quiet():
    assert outcomes(saturation, of(0.1)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(saturation, Evidence(activations("relu"), records(act0={"dead": 0.1}))) == ["not applicable"]
