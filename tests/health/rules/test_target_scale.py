import pytest

from frostline.health.records import Evidence, TargetFacts
from frostline.health.rules import target_scale
from helpers_health import outcomes


def judged(mean, deviation):
    return outcomes(target_scale, Evidence(targets=TargetFacts(mean, deviation)))


@pytest.mark.parametrize(
    ("mean", "deviation", "outcome"),
    [(152.0, 77.0, "issue"), (-200.0, 1.0, "issue"), (12.0, 9.0, "tip"), (0.0, 0.001, "issue"), (0.1, 0.02, "tip")],
)
def test_it_fires(mean, deviation, outcome):
    assert judged(mean, deviation) == [outcome]


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.5, 0.3), (3.0, 5.0)])
def test_it_stays_quiet(mean, deviation):
    assert judged(mean, deviation) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(target_scale, Evidence()) == ["not applicable"]
