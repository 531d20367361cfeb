import pytest

from frostline.health.records import Evidence
from frostline.health.rules import spikes
from helpers_health import outcomes, record


def of(*norms):
    return Evidence(gradient_norms=norms)


@pytest.mark.parametrize(("spike", "outcome"), [(50.0, "issue"), (10.0, "tip")])
def test_it_fires(spike, outcome):
    assert outcomes(spikes, of(*[1.0] * 20, spike, *[1.0] * 5)) == [outcome]
    sampled = tuple(record(at, norm=spike if at == 20 else 1.0) for at in range(30))
    assert outcomes(spikes, Evidence(records=sampled)) == [outcome]


def test_it_stays_quiet():
    assert outcomes(spikes, of(*[1.0, 2.0, 0.5] * 10)) == ["passed"]
    assert outcomes(spikes, of(100.0, 50.0, *[1.0] * 20)) == ["passed"]  # the first steps are no spikes


def test_it_does_not_apply():
    assert outcomes(spikes, of(1.0, 2.0, 3.0)) == ["not applicable"]
    assert outcomes(spikes, of(*[0.0] * 30)) == ["not applicable"]
