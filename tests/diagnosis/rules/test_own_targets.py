import math

import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import own_targets, seen_answer
from frostline.diagnosis.rules.loss_records import OwnTargets
from frostline.diagnosis.rules.row_records import RowFacts
from helpers_health import losses, outcomes

MOVING = OwnTargets(("column 1",), is_moving=True)


@pytest.mark.parametrize(
    ("last", "skill", "outcome"),
    [(1.0, 0.5, "passed"), (1.0, 0.0, "tip"), (1.0, None, "passed"), (90.0, 0.5, "issue"), (math.inf, None, "issue")],
)
def test_targets_that_move_with_the_weights(last, skill, outcome):
    evidence = Evidence(own_targets=MOVING, losses=losses(*[1.0] * 60, *[last] * 10), skill=skill)
    assert outcomes(own_targets, evidence) == [outcome]


def test_it_fires():
    (finding,) = own_targets.check(Evidence(own_targets=OwnTargets(copy="slow", source="online")))
    assert (finding.outcome, finding.layer) == ("tip", "slow")
    assert "zip(slow.parameters(), online.parameters())" in finding.advice


def test_it_stays_quiet():
    assert outcomes(own_targets, Evidence(own_targets=OwnTargets(("next",)))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(own_targets, Evidence()) == ["not applicable"]


def test_a_reward_that_is_a_feature_is_no_answer_where_the_loss_makes_its_targets():
    rows = RowFacts(answer_at=2, factor=1.0, num_features=8)
    assert outcomes(seen_answer, Evidence(rows=rows)) == ["tip"]
    assert outcomes(seen_answer, Evidence(rows=rows, own_targets=MOVING)) == ["not applicable"]
