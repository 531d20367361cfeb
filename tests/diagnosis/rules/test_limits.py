from dataclasses import replace

import pytest

from frostline.diagnosis import Evidence, Score
from frostline.diagnosis.experiments.examination import is_skilled
from frostline.diagnosis.rules import learning_rate_low, nothing_learnt
from frostline.diagnosis.rules.limits import ENOUGH_EPOCHS, LEARNS, STEPS_TO_LEARN
from helpers_health import losses


@pytest.mark.parametrize("skill", [LEARNS - 0.001, LEARNS + 0.001])
def test_a_rule_and_an_experiment_agree_on_what_learns(skill):
    evidence = Evidence(losses=losses(*[2.3] * STEPS_TO_LEARN), skill=skill)
    (finding,) = nothing_learnt.check(evidence)
    assert (finding.outcome == "passed") == is_skilled(Score(0.5, 2.0, skill=skill), first=2.3) == (skill > LEARNS)


def test_one_step_less_is_too_few_to_judge():
    short = Evidence(losses=losses(*[2.3] * (STEPS_TO_LEARN - 1)), skill=0.0)
    assert nothing_learnt.check(short)[0].outcome == "not judged"
    assert nothing_learnt.check(replace(short, losses=losses(*[2.3] * STEPS_TO_LEARN)))[0].outcome == "tip"


def test_two_rules_agree_on_when_a_training_is_too_short():
    evidence = Evidence(losses=losses(*[2.3] * 60), skill=0.0, epochs=ENOUGH_EPOCHS - 0.1)
    assert "too short" in nothing_learnt.check(evidence)[0].why
    assert "too short" not in nothing_learnt.check(replace(evidence, epochs=ENOUGH_EPOCHS))[0].why
    assert learning_rate_low.check(evidence)[0].outcome == "not judged"
