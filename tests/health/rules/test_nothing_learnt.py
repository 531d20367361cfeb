import pytest

from frostline.health.records import Evidence
from frostline.health.rules import nothing_learnt
from helpers_health import losses, outcomes

LONG = losses(*[1.0] * 60)


@pytest.mark.parametrize(
    ("skill", "words"), [(0.001, "cost 0% less"), (-0.02, "cost 0% less"), (-0.8, "cost 80% more")]
)
def test_it_fires(skill, words):
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, skill=skill))
    assert finding.outcome == "tip"
    assert "no better than with one answer" in finding.why


def test_it_stays_quiet():
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=0.5)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(nothing_learnt, Evidence(losses=LONG)) == ["not applicable"]
    assert outcomes(nothing_learnt, Evidence(losses=losses(1.0, 1.0), skill=0.0)) == ["not applicable"]
