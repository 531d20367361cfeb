import math
from dataclasses import replace

import pytest

from frostline.health import Course, Score
from frostline.recipes.examination import proving
from frostline.recipes.examination.examining import Suspicion, Trial
from frostline.recipes.examination.treatments import BATCHNORM, Remedy

CALM = Course((1.0,) * 20, 0)


def trial(family="dead_units", gain=0.3, *, name="", error=0.02, ratio=0.5, is_clear=True, is_late=False, **options):
    remedy = Remedy(name or f"undo {family}", (family,), lambda *_: None)
    suspicion = Suspicion(remedy, family, is_clear, options.pop("has_symptom", True), is_late)
    return Trial(suspicion, None, Score(0.5 + gain, 1.0), gain, error, ratio, CALM)


class Folds:
    """Gains of the trials to come."""

    def __init__(self, *gains, error=0.02):
        self.gains, self.error, self.asked, self.before = gains, error, 0, Score(0.5, 1.0)

    def attempt(self, fold, suspicion):
        self.asked += 1
        return replace(trial(gain=self.gains[fold - 1], error=self.error), suspicion=suspicion)


def repeated(first, *gains, error=0.02):
    folds = Folds(*gains, error=error)
    return proving._repeat(first, folds, proving._demand(first)), folds.asked


def test_the_weaker_the_evidence_the_more_is_asked():
    weak = [
        trial(gain=0.06), trial(gain=0.06, is_clear=False),
        trial(gain=0.1, is_clear=False), trial(gain=0.1, is_clear=False, has_symptom=False),
    ]  # fmt: skip
    assert [proving.counts(one) for one in weak] == [True, False, True, False]
    assert not proving.counts(trial(ratio=1.01))  # better answers at a higher loss
    faster = trial("learning_rate", ratio=1.01)
    remedy = replace(faster.suspicion.remedy, code="FL402")
    assert proving.counts(replace(faster, suspicion=replace(faster.suspicion, remedy=remedy)))


def test_what_helps_again_is_proven_by_two_trials():
    proof, asked = repeated(trial(gain=0.3), 0.2)
    assert asked == 1
    assert proof.gain == pytest.approx(0.25)
    assert "from 50% to 80%; in 2 trials on other samples, by 25 points on average" in str(proof)


def test_what_two_trials_leave_open_others_decide():
    proof, asked = repeated(trial(gain=0.04, error=0.03), 0.02, 0.04, 0.05, error=0.03)
    assert proof is not None
    assert asked == 2
    assert repeated(trial(gain=0.04, error=0.03), -0.01, 0.0, 0.0, error=0.03) == (None, 3)


def test_a_network_that_is_sick_by_chance_is_proven_by_most_trials():
    proof, _ = repeated(trial(gain=0.4), 0.0, 0.35)
    assert proof is not None


def test_what_helped_by_luck_is_not_tried_four_times():
    assert repeated(trial(gain=0.1, is_clear=False), -0.2) == (None, 1)


def test_units_that_died_while_training_have_to_cost_five_points():
    assert repeated(trial(gain=0.023, error=0.01), 0.024, error=0.01)[0] is not None
    assert repeated(trial(gain=0.023, error=0.01, is_late=True), 0.024, error=0.01)[0] is None


def test_batchnorm_alone_is_weak_evidence_unless_gradients_vanish():
    norm = trial(gain=0.2, name=BATCHNORM)
    alone = proving._demand_of(norm, [norm, trial(gain=0.05)])
    assert alone > proving._demand_of(norm, [norm, trial(gain=0.15)])
    assert alone == proving._demand_of(norm, [norm, trial(gain=0.15, ratio=1.1)])
    assert proving._demand_of(norm, [norm, trial("vanishing", gain=0.15)]) == alone
    vanishing = trial("vanishing", gain=0.2, name=BATCHNORM)
    assert proving._demand_of(vanishing, [vanishing]) == proving._demand(vanishing)


def test_batchnorm_is_the_last_to_be_named():
    norm, lower = trial(gain=0.3, name=BATCHNORM), trial("learning_rate", gain=0.2)
    assert proving._most_specific([norm, lower]) is lower
    assert proving._most_specific([norm, trial("learning_rate", gain=0.1)]) is norm


def test_inputs_come_before_what_they_bring():
    inputs, rate = trial("input_scale", gain=0.38, error=0.05), trial("learning_rate", gain=0.41, error=0.05)
    assert proving._most_specific([rate, inputs]) is inputs
    assert proving._most_specific([rate, replace(inputs, gain=0.32)]) is rate
    assert proving._most_specific([rate, replace(inputs, gain=0.1)]) is rate


def test_what_came_while_training_came_of_the_steps():
    late, rate = trial(gain=0.3, is_late=True), trial("learning_rate", gain=0.28)
    assert proving._most_specific([late, rate]) is rate
    assert proving._most_specific([late, replace(rate, course=Course((1.0,) * 20 + (math.inf,), 0))]) is late
    assert proving._most_specific([replace(late, suspicion=trial().suspicion), rate]).suspicion.family == "dead_units"


def test_what_was_there_at_the_start_comes_before_what_came_even_by_batchnorm():
    late, norm = trial(gain=0.3, is_late=True), trial("exploding", gain=0.28, name=BATCHNORM)
    assert proving._most_specific([late, norm]) is norm
