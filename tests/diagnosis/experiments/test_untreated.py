import math

from helpers_health import task
from helpers_race import LEG, race, ran


def test_a_score_is_computed_once_and_the_steps_before_it_are_not_repeated():
    found = race()
    with found.untreated as untreated:
        later = untreated.bring(3 * LEG)
        assert list(untreated.runner.scores) == [LEG, 2 * LEG, 3 * LEG]
        assert untreated.bring(3 * LEG) is later
        assert untreated.bring(LEG) is untreated.runner.scores[LEG]
    assert untreated.runner.steps == 3 * LEG
    assert untreated.is_whole


def test_what_the_untreated_one_left_out_needs_no_treatment():
    data = task(80)
    data[3][0][0, 0] = math.nan
    found, winner = ran(data=data)
    assert found.seen.codes >= {"FL502"}
    assert found.untreated.runner.num_skipped == 1
    assert "nonfinite" not in {one.suspicion.family for one in found.runners}
    assert winner is found.untreated.runner


def test_what_a_later_race_sees_is_told_by_the_steps_of_the_whole_training():
    data = task(80)
    data[40][0][3] *= 1e4
    found, _winner = ran(data=data, start=30, legs=2)
    evidence = found.seen.seen.evidence
    assert (evidence.outliers.step, evidence.outliers.samples) == (40, (3,))
    assert evidence.records[0].step == evidence.losses[0][0] == 30
    assert "FL302" not in found.seen.codes  # nothing is said of a first step that was not seen
