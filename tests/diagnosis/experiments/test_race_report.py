import math
from dataclasses import replace

import pytest

from frostline.diagnosis import Score, diagnosis_of
from frostline.diagnosis.experiments.race_report import skips_record, treatment_record, what_lacks
from helpers_race import LEG, in_race, race


@pytest.mark.parametrize(
    ("loss", "steps", "options", "why"),
    [
        (math.nan, LEG, {}, "the loss with it is not finite"),
        (0.1, LEG, {"has_symptom": False}, "no rule has found the symptom that it treats"),
        (0.1, 50, {}, "the batches end before it differs from a faster start: pass more of them"),
        (9.0, 50, {}, "its lead is too small to be reliable"), (0.1, LEG, {}, "its lead is too small to be reliable"),
    ],
)  # fmt: skip
def test_why_one_has_not_won_is_told(loss, steps, options, why):
    found = race()
    with found.untreated:
        found.untreated.bring(LEG)
        one = in_race(found, loss, steps=steps, **options)
        found.untreated.seen = replace(found.seen, diagnosis=diagnosis_of([], None))
        assert what_lacks(one, found.untreated.runner, found._verdict, found.schedule) == why


def test_why_a_treatment_was_kept_or_rolled_back_is_told_with_its_numbers():
    found = race(start=20)
    with found.untreated:
        found.untreated.bring(20 + LEG)
        found.untreated.runner.scores[20 + LEG] = Score(0.5, 2.0)
        one = in_race(found, 0.5, steps=20 + LEG, family="vanishing")
    numbers = "held-out loss 0.5 against 2 untreated after 10 steps"
    kept = treatment_record(one, found, is_kept=True)
    assert kept.why == f"kept: {numbers}; the rules find no such issue any more."
    assert (kept.kept, kept.family, kept.loss) == (True, "vanishing", 0.5)
    one.failure = "another is better"
    assert treatment_record(one, found, is_kept=False).why == f"rolled back: {numbers}; another is better."
    one.scores.clear()
    assert treatment_record(one, found, is_kept=False).why == "rolled back: another is better."


@pytest.mark.parametrize(("num_skipped", "is_kept"), [(3, True), (5, False)])
def test_steps_that_were_left_out_are_a_treatment_unless_they_are_half_of_all(num_skipped, is_kept):
    told = skips_record(num_skipped, 10, Score(0.5, 2.0))
    assert told.kept is is_kept
    assert told.why == f"{num_skipped} of 10 steps were left out."
