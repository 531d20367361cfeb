import pytest

from frostline.health.records import Evidence
from frostline.health.rules import nothing_learnt
from helpers_health import losses, outcomes

LONG = losses(*[1.0] * 60)


FALLING = losses(*(5.3 - 0.4 * min(at, 40) / 40 + 0.02 * (-1) ** at for at in range(60)))


@pytest.mark.parametrize("told", [LONG, FALLING])
@pytest.mark.parametrize(("skill", "words"), [
    (0.001, "no better than with one answer"), (-0.8, "no better than with one answer"),
    (0.04, "at most 4% of the loss of one answer for all held-out samples is saved"),
])  # fmt: skip
def test_it_fires(skill, words, told):
    (finding,) = nothing_learnt.check(Evidence(losses=told, skill=skill))
    assert finding.outcome == "tip"
    assert words in finding.why


def test_a_loss_that_fell_to_its_floor_is_no_symptom():
    (finding,) = nothing_learnt.check(Evidence(losses=FALLING, skill=0.07))
    assert finding.outcome == "passed"
    assert "7% better than by one answer, and the training loss fell from 5.28 to 4.9:" in finding.why
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=0.07)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=0.5)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(nothing_learnt, Evidence(losses=LONG)) == ["not judged"]
    assert outcomes(nothing_learnt, Evidence(losses=losses(1.0, 1.0), skill=0.0)) == ["not judged"]


@pytest.mark.parametrize(("epochs", "is_short"), [(1.0, True), (3.0, False), (None, False)])
def test_after_one_epoch_the_first_advice_is_to_train_on(epochs, is_short):
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, skill=0.0, epochs=epochs))
    assert finding.outcome == "tip"
    assert ("too short" in finding.why) is is_short
    assert finding.advice.startswith("look again after three epochs") is is_short
