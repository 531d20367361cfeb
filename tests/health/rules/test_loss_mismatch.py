import pytest

from frostline.health.records import Evidence, LossFacts
from frostline.health.rules import loss_mismatch
from helpers_health import outcomes


def judged(kind="classes", **facts):
    return outcomes(loss_mismatch, Evidence(loss=LossFacts(kind, **facts)))


@pytest.mark.parametrize(
    "facts",
    [{"prefers_right": False}, {"is_bounded": False}, {"slope_when_wrong": 1e-6}, {"stuck_share": 0.6},
     {"out_of_reach": 0.5}],
    ids=lambda facts: next(iter(facts)),
)  # fmt: skip
def test_it_fires(facts):
    assert judged(**facts) == ["issue"]


def test_it_stays_quiet():
    assert judged() == ["passed"]
    assert judged("values", slope_when_wrong=2.0, out_of_reach=0.05) == ["passed"]


def test_it_does_not_apply():
    assert judged("unknown", prefers_right=False) == ["not judged"]
    assert outcomes(loss_mismatch, Evidence()) == ["not judged"]
