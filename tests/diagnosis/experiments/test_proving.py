import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from frostline.diagnosis import Course, Score
from frostline.diagnosis.experiments import proving
from frostline.diagnosis.experiments.examination import Suspicion, Trial
from frostline.diagnosis.experiments.treatments import BATCHNORM, Remedy

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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gain": 0.01}, True), ({"gain": 0.0}, False), ({"gain": 0.01, "error": 9.0}, True),  # clear: any gain
        ({"gain": 0.071, "is_clear": False}, True), ({"gain": 0.069, "is_clear": False}, False),
        ({"gain": 0.1, "is_clear": False, "error": 0.062}, True),
        ({"gain": 0.1, "is_clear": False, "error": 0.063}, False),
        ({"gain": 0.121, "is_clear": False, "has_symptom": False}, True),
        ({"gain": 0.119, "is_clear": False, "has_symptom": False}, False),
        ({"gain": 0.2, "is_clear": False, "has_symptom": False, "error": 0.099}, True),
        ({"gain": 0.2, "is_clear": False, "has_symptom": False, "error": 0.101}, False),
        ({"ratio": 0.999}, True), ({"ratio": 1.0}, False),
    ],
)  # fmt: skip
def test_what_is_asked_of_one_trial(changes, expected):
    assert proving.counts(trial(**changes)) is expected


@pytest.mark.parametrize(
    ("code", "is_clear", "ratio", "expected"),
    [("FL402", True, 1.09, True), ("FL402", True, 1.11, False), ("FL402", False, 1.01, False),
     ("FL401", True, 1.01, False)],
)  # fmt: skip
def test_who_has_hardly_moved_may_lose_a_little(code, is_clear, ratio, expected):
    one = trial("learning_rate", ratio=ratio, is_clear=is_clear)
    remedy = replace(one.suspicion.remedy, code=code)
    assert proving.counts(replace(one, suspicion=replace(one.suspicion, remedy=remedy))) is expected


def test_of_a_loss_three_times_as_much_is_asked():
    one = trial(gain=0.2, is_clear=False)
    assert proving.counts(one)
    assert not proving.counts(replace(one, score=Score(0.5, 1.0, is_of_loss=True)))
    assert proving.counts(replace(one, gain=0.22, score=Score(0.5, 1.0, is_of_loss=True)))


@pytest.mark.parametrize(
    ("gains", "error", "tries"),
    [
        ((0.03, 0.011), 0.001, 2), ((0.03, 0.009), 0.001, None),  # two in a hundred on average
        ((0.1, 0.1), 0.09, 2), ((0.1, 0.1, 0.1), 0.1, 3),  # one and a half standard errors
        ((0.4, -0.01, 0.3), 0.02, 3), ((0.4, -0.01, -0.03, 0.3), 0.02, 4), ((0.4, -0.01, -0.03, -0.03), 0.02, None),
    ],
)  # fmt: skip
def test_when_a_treatment_is_proven(gains, error, tries):
    proof, _ = repeated(trial(gain=gains[0], error=error), *gains[1:], *[-1.0] * 3, error=error)
    assert (proof.tries if proof else None) == tries
    if proof is not None:
        assert proof.gain == pytest.approx(sum(gains[:tries]) / tries)
        assert proof.demand == 0.02


def test_a_proof_is_told_in_the_unit_of_its_score():
    one = trial(gain=0.3)
    assert (
        str(proving.Proof(one, Score(0.5, 1.0), 0.3, 1, 0.02)) == "the score on held-out samples goes from 50% to 80%."
    )
    of_loss = replace(one, score=Score(0.5, 0.25, is_of_loss=True))
    text = str(proving.Proof(of_loss, Score(0.3, 2.0, is_of_loss=True), 0.875, 3, 0.06))
    assert text == (
        "the loss on held-out samples goes from 2 to 0.25; in 3 trials on other samples, by 88 % on average."
    )


def seen(loss=1.0, first_loss=2.0):
    return SimpleNamespace(seen=SimpleNamespace(score=Score(0.5, loss), first_loss=first_loss))


def test_from_nothing_to_something_is_no_luck():
    one = trial(gain=0.3)
    proof = proving.prove(seen(loss=math.nan), [trial(gain=-0.1), one], [])
    assert (proof.trial, proof.tries, proof.demand, proof.gain) == (one, 1, 0.0, 0.3)
    assert proving.prove(seen(loss=math.nan), [trial(gain=-0.1)], []) is None


@pytest.mark.parametrize("family", ["learning_rate", "oscillation", "gradient_spikes"])
def test_where_no_step_was_taken_steps_are_not_the_cause(family):
    for first, is_proven in ((math.inf, False), (math.nan, False), (2.0, True)):
        proof = proving.prove(seen(math.nan, first), [trial(family, gain=0.3)], [])
        assert (proof is not None) is is_proven
    assert proving.prove(seen(math.nan, math.inf), [trial("nonfinite", gain=0.3)], []) is not None


def test_what_is_not_proven_gives_way_to_the_next(monkeypatch):
    first, second = trial(gain=0.3), trial("symmetry", gain=0.2)
    monkeypatch.setattr(proving, "_repeat", lambda one, *_: one if one is second else None)
    assert proving.prove(seen(), [first, second, trial(gain=-0.1)], []) is second
    monkeypatch.setattr(proving, "_repeat", lambda *_: None)
    assert proving.prove(seen(), [first, second], []) is None


def test_other_trials_are_on_other_samples_in_another_order():
    folds = proving._Folds(seen(), list(range(10)))
    assert folds._in_order(1) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert folds._in_order(2) == [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]
    assert folds._in_order(3) == [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]
    assert proving._Folds(seen(), [0, 1, 2])._in_order(2) == [2, 0, 1]


def test_nearly_the_best_is_three_quarters_of_it_and_the_first_of_those():
    best = trial("symmetry", gain=0.4)
    assert proving._most_specific([trial(gain=0.31), best]).suspicion.family == "dead_units"
    assert proving._most_specific([trial(gain=0.29), best]) is best


def test_who_is_steady_after_spikes_is_calm():
    calm, spiky, short = (99.0,) * 5 + (1.0,) * 9 + (7.9,), (1.0,) * 14 + (8.1,), (1.0,) * 5
    for norms, is_calm in ((calm, True), (spiky, False), (short, False), ((1.0,) * 8 + (math.nan,), True)):
        assert replace(trial(), course=Course(norms, 0)).is_calm is is_calm
