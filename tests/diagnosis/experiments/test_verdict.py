import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from frostline.diagnosis import Course, Score
from frostline.diagnosis.experiments import verdict
from frostline.diagnosis.experiments.examination import Suspicion, Trial
from frostline.diagnosis.experiments.treatments import BATCHNORM, Remedy
from frostline.diagnosis.experiments.verdict import (
    falls,
    has_lost,
    has_more,
    leads,
    leads_a_little,
    leads_at_last,
    leads_by_far,
    leads_clearly,
    leads_steadily,
)


def score(loss, right=0, of=100, skill=None):
    samples = (1.0,) * right + (0.0,) * (of - right)
    return Score(right / of, loss, samples, skill)


@pytest.mark.parametrize(
    ("own", "other", "share", "expected"),
    [
        (0.9, 1.0, 0.05, True), (0.96, 1.0, 0.05, False), (-1.2, -1.0, 0.1, True), (-1.0, -1.0, 0.1, False),
        (1.0, math.nan, 0.5, True), (math.nan, 1.0, 0.0, False), (math.nan, math.nan, 0.0, False),
    ],
)  # fmt: skip
def test_a_loss_falls_by_a_share_whatever_its_sign(own, other, share, expected):
    assert falls(score(own), score(other), share) is expected


@pytest.mark.parametrize(
    ("own", "marks", "learns", "expected"),
    [
        (1.9, 1, True, False), (2.1, 1, False, True), (1.04, 2, True, False), (1.06, 2, True, True),
        (1.0, 3, True, True), (0.98, 3, True, False), (1.04, 3, False, False),
    ],
)  # fmt: skip
def test_later_and_beside_one_that_learns_more_is_asked_to_stay(own, marks, learns, expected):
    assert has_lost(score(own), score(1.0), marks=marks, learns=learns) is expected


@pytest.mark.parametrize("learns", [False, True])
def test_less_is_asked_for_an_issue_than_for_a_tip(learns):
    other = score(1.0, right=50)
    asked = {"has_symptom": True, "learns": learns}
    assert leads(score(0.95, right=60), other, is_issue=True, **asked)
    assert not leads(score(0.965, right=60), other, is_issue=False, **asked)
    assert not leads(score(0.95, right=49), other, is_issue=True, **asked)
    assert leads(score(0.85, right=70), other, is_issue=False, **asked)


def test_most_is_asked_without_a_symptom():
    other, own = score(1.0, right=50), score(0.95, right=70)
    assert leads(own, other, is_issue=False, has_symptom=True, learns=False)
    assert not leads(own, other, is_issue=False, has_symptom=False, learns=False)


def test_a_loss_that_is_clearly_lower_is_enough_for_an_issue_with_something_to_gain():
    asked = {"has_symptom": True, "learns": True}
    assert leads(score(0.7, right=50), score(1.0, right=50, skill=0.5), is_issue=True, **asked)
    assert not leads(score(0.7, right=50), score(1.0, right=50, skill=0.99), is_issue=True, **asked)
    assert not leads(score(0.7, right=49), score(1.0, right=50, skill=0.5), is_issue=True, **asked)
    assert not leads(score(0.7, right=50), score(1.0, right=50, skill=0.5), is_issue=False, **asked)


def test_far_and_a_little():
    assert leads_by_far(score(0.59), score(1.0))
    assert not leads_by_far(score(0.61), score(1.0))
    assert leads_a_little(score(0.93), score(1.0))
    assert not leads_a_little(score(0.95), score(1.0))


def test_a_little_is_enough_three_times_in_a_row():
    better = (score(0.9, right=51), score(1.0, right=50))
    worse = (score(0.9, right=49), score(1.0, right=50))
    assert not leads_steadily([better, better])
    assert leads_steadily([worse, better, better, better])
    assert not leads_steadily([better, worse, better])
    assert not leads_steadily([better, better, (score(0.9, right=51), score(1.0, right=50, skill=0.96))])


def test_there_is_more_to_gain_unless_nearly_all_is_saved():
    assert has_more(score(1.0))
    assert has_more(score(1.0, skill=0.94))
    assert not has_more(score(1.0, skill=0.95))


@pytest.mark.parametrize(
    ("loss", "right", "expected"), [(0.79, 50, True), (0.81, 50, False), (0.79, 49, False), (0.9, 60, False)]
)
def test_a_clear_lead_loses_no_answers(loss, right, expected):
    assert leads_clearly(score(loss, right), score(1.0, 50)) is expected


@pytest.mark.parametrize(
    ("loss", "right", "learns", "expected"),
    [
        (0.9, 60, True, True), (0.97, 60, True, False),  # one that learns: less loss is asked
        (0.97, 60, False, True), (1.01, 60, False, False),  # else no more loss
        (0.9, 53, False, False), (0.9, 54, False, True),
    ],
)  # fmt: skip
def test_at_last_answers_decide_beside_one_that_learns_nothing(loss, right, learns, expected):
    assert leads_at_last(score(loss, right), score(1.0, 50), learns=learns) is expected


def test_a_lead_in_answers_that_may_be_luck_is_none():
    """Of ten samples, two more right answers are two others less the next time."""
    few, other = score(0.5, right=7, of=10), score(1.0, right=5, of=10)
    mixed = Score(0.7, 0.5, (0.0,) * 2 + (1.0,) * 7 + (0.0,))  # it gains four, and loses two
    assert not leads(mixed, other, is_issue=False, has_symptom=True, learns=False)
    assert not leads_at_last(mixed, other, learns=False)
    assert leads(score(0.5, right=70), score(1.0, right=50), is_issue=False, has_symptom=True, learns=False)
    assert few.share == mixed.share


@pytest.mark.parametrize("has_symptom", [False, True])
def test_an_issue_of_a_network_that_learns_nothing_needs_no_more_answers_and_a_slightly_lower_loss(has_symptom):
    other = score(1.0, right=50, skill=0.99)
    asked = {"is_issue": True, "has_symptom": has_symptom, "learns": False}
    assert leads(score(0.965, right=50), other, **asked) is has_symptom
    assert not leads(score(0.975, right=50), other, **asked)


def test_losses_below_zero_fall_by_a_share_of_their_size():
    assert falls(score(-4.3), score(-4.0), 0.05)
    assert not falls(score(-4.1), score(-4.0), 0.05)
    assert falls(score(0.24), score(0.3), 0.1)
    assert not falls(score(0.28), score(0.3), 0.1)


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
    return verdict._repeat(first, folds, verdict._criterion_of(first)), folds.asked


def test_the_weaker_the_evidence_the_more_is_asked():
    weak = [
        trial(gain=0.06), trial(gain=0.06, is_clear=False),
        trial(gain=0.1, is_clear=False), trial(gain=0.1, is_clear=False, has_symptom=False),
    ]  # fmt: skip
    assert [verdict.counts(one) for one in weak] == [True, False, True, False]
    assert not verdict.counts(trial(ratio=1.01))  # better answers at a higher loss
    faster = trial("learning_rate", ratio=1.01)
    remedy = replace(faster.suspicion.remedy, code="FL402")
    assert verdict.counts(replace(faster, suspicion=replace(faster.suspicion, remedy=remedy)))


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
    alone = verdict._criterion_in(norm, [norm, trial(gain=0.05)])
    assert alone.min_gain > verdict._criterion_in(norm, [norm, trial(gain=0.15)]).min_gain
    assert alone == verdict._criterion_in(norm, [norm, trial(gain=0.15, ratio=1.1)])
    assert verdict._criterion_in(norm, [norm, trial("vanishing", gain=0.15)]) == alone
    vanishing = trial("vanishing", gain=0.2, name=BATCHNORM)
    assert verdict._criterion_in(vanishing, [vanishing]) == verdict._criterion_of(vanishing)


def test_batchnorm_is_the_last_to_be_named():
    norm, lower = trial(gain=0.3, name=BATCHNORM), trial("learning_rate", gain=0.2)
    assert verdict._most_specific([norm, lower]) is lower
    assert verdict._most_specific([norm, trial("learning_rate", gain=0.1)]) is norm


def test_inputs_come_before_what_they_bring():
    inputs, rate = trial("input_scale", gain=0.38, error=0.05), trial("learning_rate", gain=0.41, error=0.05)
    assert verdict._most_specific([rate, inputs]) is inputs
    assert verdict._most_specific([rate, replace(inputs, gain=0.32)]) is rate
    assert verdict._most_specific([rate, replace(inputs, gain=0.1)]) is rate


def test_what_came_while_training_came_of_the_steps():
    late, rate = trial(gain=0.3, is_late=True), trial("learning_rate", gain=0.28)
    assert verdict._most_specific([late, rate]) is rate
    assert verdict._most_specific([late, replace(rate, course=Course((1.0,) * 20 + (math.inf,), 0))]) is late
    assert verdict._most_specific([replace(late, suspicion=trial().suspicion), rate]).suspicion.family == "dead_units"


def test_what_was_there_at_the_start_comes_before_what_came_even_by_batchnorm():
    late, norm = trial(gain=0.3, is_late=True), trial("exploding", gain=0.28, name=BATCHNORM)
    assert verdict._most_specific([late, norm]) is norm


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
    assert verdict.counts(trial(**changes)) is expected


@pytest.mark.parametrize(
    ("code", "is_clear", "ratio", "expected"),
    [("FL402", True, 1.09, True), ("FL402", True, 1.11, False), ("FL402", False, 1.01, False),
     ("FL401", True, 1.01, False)],
)  # fmt: skip
def test_who_has_hardly_moved_may_lose_a_little(code, is_clear, ratio, expected):
    one = trial("learning_rate", ratio=ratio, is_clear=is_clear)
    remedy = replace(one.suspicion.remedy, code=code)
    assert verdict.counts(replace(one, suspicion=replace(one.suspicion, remedy=remedy))) is expected


def test_of_a_loss_three_times_as_much_is_asked():
    one = trial(gain=0.2, is_clear=False)
    assert verdict.counts(one)
    assert not verdict.counts(replace(one, score=Score(0.5, 1.0, is_of_loss=True)))
    assert verdict.counts(replace(one, gain=0.22, score=Score(0.5, 1.0, is_of_loss=True)))


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
        assert proof.min_gain == 0.02


def test_a_proof_is_told_in_the_unit_of_its_score():
    one = trial(gain=0.3)
    assert (
        str(verdict.Proof(one, Score(0.5, 1.0), 0.3, 1, 0.02)) == "the score on held-out samples goes from 50% to 80%."
    )
    of_loss = replace(one, score=Score(0.5, 0.25, is_of_loss=True))
    text = str(verdict.Proof(of_loss, Score(0.3, 2.0, is_of_loss=True), 0.875, 3, 0.06))
    assert text == (
        "the loss on held-out samples goes from 2 to 0.25; in 3 trials on other samples, by 88 % on average."
    )


def seen(loss=1.0, first_loss=2.0, *, is_learning=False):
    diagnosis, evidence = SimpleNamespace(findings=()), SimpleNamespace(outliers=None)
    own = SimpleNamespace(score=Score(0.5, loss), first_loss=first_loss, evidence=evidence)
    return SimpleNamespace(seen=own, diagnosis=diagnosis, is_learning=is_learning)


def test_from_nothing_to_something_is_no_luck():
    one = trial(gain=0.3)
    proof = verdict.prove(seen(loss=math.nan), [trial(gain=-0.1), one], [])
    assert (proof.trial, proof.tries, proof.min_gain, proof.gain) == (one, 1, 0.0, 0.3)
    assert verdict.prove(seen(loss=math.nan), [trial(gain=-0.1)], []) is None


@pytest.mark.parametrize("family", ["learning_rate", "oscillation", "gradient_spikes"])
def test_where_no_step_was_taken_steps_are_not_the_cause(family):
    for first, is_proven in ((math.inf, False), (math.nan, False), (2.0, True)):
        proof = verdict.prove(seen(math.nan, first), [trial(family, gain=0.3)], [])
        assert (proof is not None) is is_proven
    assert verdict.prove(seen(math.nan, math.inf), [trial("nonfinite", gain=0.3)], []) is not None


def test_what_is_not_proven_gives_way_to_the_next(monkeypatch):
    first, second = trial(gain=0.3), trial("symmetry", gain=0.2)
    monkeypatch.setattr(verdict, "_repeat", lambda one, *_: one if one is second else None)
    assert verdict.prove(seen(), [first, second, trial(gain=-0.1)], []) is second
    monkeypatch.setattr(verdict, "_repeat", lambda *_: None)
    assert verdict.prove(seen(), [first, second], []) is None


def test_other_trials_are_on_other_samples_in_another_order():
    folds = verdict._Folds(seen(), list(range(10)))
    assert folds._in_order(1) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert folds._in_order(2) == [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]
    assert folds._in_order(3) == [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]
    assert verdict._Folds(seen(), [0, 1, 2])._in_order(2) == [2, 0, 1]


def test_nearly_the_best_is_three_quarters_of_it_and_the_first_of_those():
    best = trial("symmetry", gain=0.4)
    assert verdict._most_specific([trial(gain=0.31), best]).suspicion.family == "dead_units"
    assert verdict._most_specific([trial(gain=0.29), best]) is best


def test_of_a_loss_that_blew_up_the_steps_are_the_cause_and_not_their_spikes():
    clip, rate = trial("gradient_spikes", gain=0.4), trial("learning_rate", gain=0.35)
    assert verdict._most_specific([clip, rate]) is clip
    assert verdict._most_specific([clip, rate], is_blown_up=True) is rate


def test_a_setting_with_its_symptom_comes_before_what_it_brings():
    decay, norm = trial("weight_decay", gain=0.35), trial(gain=0.4, name=BATCHNORM)
    assert verdict._most_specific([norm, decay]) is decay
    assert (
        verdict._most_specific([norm, replace(decay, gain=0.2)]) is not norm
    )  # half as much is enough beside BatchNorm
    without = replace(decay, suspicion=replace(decay.suspicion, has_symptom=False))
    assert verdict._most_specific([trial(gain=0.4), without]).suspicion.family == "dead_units"


def test_a_network_that_has_learnt_nearly_all_needs_no_treatment():
    around = seen()
    around.seen.score = Score(0.99, 0.01, skill=0.97)
    assert verdict.prove(around, [trial(gain=0.3)], []) is None


def test_who_is_steady_after_spikes_is_calm():
    calm, spiky, short = (99.0,) * 5 + (1.0,) * 9 + (7.9,), (1.0,) * 14 + (8.1,), (1.0,) * 5
    for norms, is_calm in ((calm, True), (spiky, False), (short, False), ((1.0,) * 8 + (math.nan,), True)):
        assert replace(trial(), course=Course(norms, 0)).is_calm is is_calm


@pytest.mark.parametrize(
    ("skill", "is_of_loss", "is_issue", "is_proven"),
    [(0.83, True, False, False), (0.5, True, False, True), (0.83, False, False, True), (0.83, True, True, True),
     (None, True, False, True)],
)  # fmt: skip
def test_a_lower_loss_alone_is_no_cause_in_a_network_that_learns_well(
    monkeypatch, skill, is_of_loss, is_issue, is_proven
):
    monkeypatch.setattr(verdict, "_repeat", lambda one, *_: one)
    one = trial("learning_rate", gain=0.5)
    one = replace(one, suspicion=replace(one.suspicion, is_issue=is_issue))
    around = seen()
    around.seen.score = Score(0.6, 0.57, skill=skill, is_of_loss=is_of_loss)
    assert (verdict.prove(around, [one], []) is one) is is_proven


@pytest.mark.parametrize("changes", [{}, {"has_symptom": True}, {"is_of_loss": False}, {"is_learning": False}])
def test_steps_of_usual_size_are_not_too_slow_for_a_lower_loss(monkeypatch, changes):
    monkeypatch.setattr(verdict, "_repeat", lambda one, *_: one)
    monkeypatch.setattr(verdict, "twice_the_steps", lambda _: None)
    one = trial("learning_rate", gain=0.9, has_symptom=changes.get("has_symptom", False))
    suspicion = replace(one.suspicion, remedy=replace(one.suspicion.remedy, code="FL402"))
    around, is_of_loss = seen(is_learning=changes.get("is_learning", True)), changes.get("is_of_loss", True)
    around.seen.score = Score(0.6, 0.57, skill=0.4, is_of_loss=is_of_loss)
    one = replace(one, suspicion=suspicion, score=replace(one.score, is_of_loss=is_of_loss))
    assert (verdict.prove(around, [one], []) is one) is bool(changes)


@pytest.mark.parametrize(
    ("changes", "is_sooner"),
    [({}, False), ({"is_late": True}, True), ({"has_symptom": False}, True), ({"name": BATCHNORM}, True)],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_what_twice_the_steps_bring_is_no_cause(monkeypatch, changes, is_sooner):
    one, after = trial(gain=0.3, **changes), [0.66]
    monkeypatch.setattr(verdict, "_repeat", lambda one, *_: one)
    monkeypatch.setattr(verdict, "twice_the_steps", lambda _: Score(after[0], 1.0))
    assert (verdict.prove(seen(), [one], []) is None) is is_sooner
    after[0] = 0.64
    assert verdict.prove(seen(), [one], []) is one


@pytest.mark.parametrize(
    ("changes", "is_sooner"), [({}, True), ({"is_learning": False}, False), ({"is_issue": True}, False)]
)
def test_new_weights_that_twice_the_steps_make_up_for_are_no_cause(monkeypatch, changes, is_sooner):
    """A short autoencoder that learns, with some units that are dead."""
    one = trial(gain=0.3)
    remedy = replace(one.suspicion.remedy, undoes_the_start=True)
    one = replace(one, suspicion=replace(one.suspicion, remedy=remedy, is_issue=changes.get("is_issue", False)))
    monkeypatch.setattr(verdict, "_repeat", lambda one, *_: one)
    monkeypatch.setattr(verdict, "twice_the_steps", lambda _: Score(0.66, 1.0))
    around = seen(is_learning=changes.get("is_learning", True))
    assert (verdict.prove(around, [one], []) is None) is is_sooner


def test_a_loss_that_has_fallen_by_far_is_not_too_slow(monkeypatch):
    monkeypatch.setattr(verdict, "_repeat", lambda one, *_: one)
    monkeypatch.setattr(verdict, "twice_the_steps", lambda _: None)
    one, around = trial(gain=0.9, is_late=True), seen(is_learning=True)
    one = replace(one, score=replace(one.score, is_of_loss=True))
    for loss, is_proven in ((0.1, False), (0.3, True)):
        around.seen.score = Score(0.5, loss, is_of_loss=True)
        assert (verdict.prove(around, [one], []) is one) is is_proven
