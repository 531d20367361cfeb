import math

import pytest

from frostline.diagnosis import Score
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
