import math
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Patient, Score, diagnosis_of
from frostline.diagnosis.experiments.race import Race
from frostline.diagnosis.rules import RULES
from helpers_health import mlp, sgd, sick_sigmoids, task
from helpers_race import LEG, in_race, race, ran, suspected
from remedies.surgeon import fingerprint, same


def test_the_one_without_treatment_wins_where_nothing_is_wrong():
    found, winner = ran()
    assert winner is found.untreated.runner
    assert winner.suspicion is None
    assert found.seen.is_learning


def test_who_starts_is_left_as_it_came():
    model = sick_sigmoids()
    optimizer = sgd(model)
    before = fingerprint(model, optimizer)
    Race(Patient(model, optimizer), task(60), task(5), F.cross_entropy, start=0, leg=LEG, legs=4).run()
    assert same(fingerprint(model, optimizer), before)


def test_a_treatment_wins_a_sick_network():
    found, winner = ran(sick_sigmoids(), task(120), lr=0.05)
    assert winner in found.runners
    assert winner.suspicion.family == "vanishing"
    assert winner.steps > max(winner.scores)  # it was watched after it had won
    assert winner.loss < 0.96 * found.untreated.runner.scores[max(winner.scores)].loss


def test_losers_are_let_go():
    found, winner = ran(sick_sigmoids(), task(120), lr=0.05)
    out = [one for one in found.runners if one.failure]
    assert all(one.patient is found._patient for one in out)
    assert winner.patient is not found._patient


def test_all_have_the_same_batches_and_the_same_noise():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3))
    found = race(model, task(60), lr=0.05)
    with found.untreated:
        found.untreated.bring(2 * LEG)
        (suspicion,) = [one for one in found.seen.rates(both=True)[0][:1]]
        idle = replace(suspicion, remedy=replace(suspicion.remedy, apply=lambda *_: None))
        other = found._new(idle, 2 * LEG)
        assert not found._bring(other, LEG)
        found._advance(other, 2 * LEG)
    assert other.score == found.untreated.runner.score


def test_a_race_begins_where_the_last_one_ended():
    _found, winner = ran(start=30, legs=2)
    assert list(winner.scores) == [40, 50]
    assert winner.steps == 50


def test_what_was_kept_is_not_tried_again():
    _found, winner = ran(sick_sigmoids(), task(120), lr=0.05)
    again, _other = ran(sick_sigmoids(), task(120), lr=0.05, kept=[winner.suspicion])
    names = {one.suspicion.remedy.name for one in again.runners}
    assert winner.suspicion.remedy.name not in names


def test_a_treatment_that_cannot_be_done_is_out():
    found = race()
    with found.untreated:
        found.untreated.bring(LEG)
        suspicion = found.seen.rates(both=True)[0][0]

        def refuse(*_):
            raise ValueError("Expected more than 1 value per channel when training")

        one = found._new(replace(suspicion, remedy=replace(suspicion.remedy, apply=refuse)), LEG)
    assert "this treatment cannot be applied here: ValueError: Expected more than 1 value" in one.failure
    assert one.scores == {}
    assert one.loss == math.inf


def test_one_that_breaks_down_starts_anew_where_nothing_helps():
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    found, winner = ran(model)
    assert not math.isfinite(found.untreated.runner.loss)
    assert math.isfinite(winner.loss) if winner.suspicion is not None else winner.steps == 0


def test_who_enters_late_stops_where_it_falls_behind():
    found = race(lr=0.1)
    with found.untreated:
        found.untreated.bring(3 * LEG)
        one = found._new(suspected(found, factor=0.0), 3 * LEG)
        assert not found._bring(one, 3 * LEG)
    assert max(one.scores) < 3 * LEG
    assert f"not clearly better than without treatment after {max(one.scores)} steps" in one.failure


def test_who_enters_late_wins_on_the_way():
    found = race(lr=1e-4)
    with found.untreated:
        found.untreated.bring(3 * LEG)
        one = found._new(suspected(found, factor=1e3), 3 * LEG)
        assert found._bring(one, 3 * LEG)
    assert list(one.scores) == [LEG]


def test_of_rates_the_next_is_tried_as_long_as_it_is_better():
    found = race(lr=1e-5)
    with found.untreated:
        found.untreated.bring(LEG)
        line = [suspected(found, factor=factor) for factor in (1e2, 1e4, 1e9, 1e3)]
        winner = found._along(line, LEG)
    assert winner.suspicion is line[1]
    assert [one.suspicion for one in found.runners] == line[:3]


def test_below_a_lower_rate_that_has_won_a_third_of_it_is_compared_later():
    found = race(lr=2.0)
    with found.untreated:
        found.untreated.bring(2 * LEG)
        slower = replace(found.seen.rates(both=True)[0][0], is_issue=True)
        first = found._new(slower, LEG)
        found._advance(first, LEG)
        best = found._with_lower_rate(first)
        assert best.suspicion.remedy.rate == 0.03
        assert list(best.scores) == list(first.scores) == [10, 20, 30]
        assert first.scores[LEG].loss < best.scores[LEG].loss  # the higher rate leads at first
        assert first.loss > best.loss
        usual = found._new(replace(slower, partner=slower), LEG)
        assert found._with_lower_rate(usual) is usual  # a pair, and a network without treatment, have no next
        assert found._with_lower_rate(found.untreated.runner) is found.untreated.runner


def test_where_nothing_is_learnt_the_race_goes_on_to_the_end_of_the_batches():
    found, winner = ran(lr=1e-9, legs=5)
    assert found.seen.is_learning or max(found.untreated.runner.scores) == found.schedule.end
    assert winner.suspicion is None or winner.suspicion.family == "learning_rate"


def test_a_network_that_was_slow_at_first_and_learns_is_left_alone():
    found = race(lr=0.02)
    with found.untreated:
        found.untreated.bring(LEG)
        one = found._new(suspected(found, factor=30.0, has_symptom=False, is_issue=False, family="x"), LEG)
        assert not found._bring(one, LEG)
    assert one.score.loss < 0.8 * found.untreated.runner.scores[LEG].loss
    assert found._verdict.learns(found.untreated.runner.scores[2 * LEG])
    assert not one.failure


def test_inputs_in_another_unit_are_scaled_where_nothing_is_learnt_and_nothing_lost():
    found = race(lr=0.0)
    with found.untreated:
        found.untreated.bring(2 * LEG)
        scaled = suspected(found, family="input_scale")
        one = found._new(scaled, 2 * LEG)
        assert found._bring(one, 2 * LEG)
    assert list(one.scores) == [LEG, 2 * LEG]
    assert one.score.loss == found.untreated.runner.scores[2 * LEG].loss


def test_nothing_that_is_not_finite_wins():
    model, data = mlp(), [(inputs * math.nan, target) for inputs, target in task(80)]
    found = race(model, data)
    assert found.run().suspicion is None
    model = mlp()
    with torch.no_grad():
        model[-1].bias[0] = math.nan
    found, winner = ran(model)
    assert winner.suspicion is None or math.isfinite(winner.loss)


def test_of_those_that_still_run_the_best_two_stay_and_later_one():
    for mark, kept in ((30, 2), (40, 1)):
        found = race()
        with found.untreated:
            found.untreated.bring(mark)
            runners = [in_race(found, loss, steps=mark) for loss in (0.3, 0.1, 0.2)]
            assert found._bring_all(mark) is None
        assert [one.loss for one in found._running()] == [0.1, 0.2, 0.3][:kept]
        assert runners[0].failure == f"another treatment was ahead after {mark} steps"


def test_none_is_left_out_for_one_whose_loss_is_not_finite():
    found = race()
    with found.untreated:
        found.untreated.bring(40)
        for _ in range(3):
            in_race(found, math.nan, steps=40)
        found._bring_all(40)
    assert len(found._running()) == 3


def test_a_sickness_that_stands_or_is_new_is_no_cure(monkeypatch):
    found = race()
    with found.untreated:
        found.untreated.bring(20)
    about = {rule.ABOUT.code: rule.ABOUT for rule in RULES}

    def issues(*codes):
        return diagnosis_of([about[code].issue("why.", None, None) for code in codes], None)

    for known, now, learns, expected in (
        (["FL101"], [], True, True), (["FL101"], ["FL101"], True, False), (["FL101"], ["FL201"], True, False),
        (["FL101"], ["FL201"], False, True), (["FL101"], ["FL101"], False, False),
        (["FL101", "FL201"], ["FL201"], True, True),
    ):  # fmt: skip
        one = in_race(found, 0.1, steps=20, family="vanishing")
        found.untreated.seen = replace(found.seen, diagnosis=issues(*known))
        monkeypatch.setattr("frostline.diagnosis.experiments.race.watched", lambda *_, own=now, **__: issues(*own))
        found._verdict.learns = lambda *_, own=learns, **__: own
        assert found._is_healthy(one) is expected
        assert one.issues == tuple(now)
        assert one.failure == ("" if expected else f"{now[0]} was still found, or is new")
    one.steps = len(found._data)
    assert not found._is_healthy(one)  # nothing is left to see it by


def test_ten_steps_are_asked_wherever_a_race_begins():
    found = race(start=30, lr=0.0)
    with found.untreated:
        found.untreated.bring(40)
        one = in_race(found, 0.01, steps=40)
        found.untreated.runner.scores |= {35: Score(0.1, 9.0), 40: Score(0.1, 9.0)}
        one.scores = {35: one.score, 40: one.score}
        found._is_healthy = lambda *_: True
        found._verdict.is_ahead = lambda *_: True
        one.steps = 35
        assert not found._wins(one)
        one.steps = 40
        assert found._wins(one)


def test_only_the_copy_of_the_best_is_kept():
    found, winner = ran(sick_sigmoids(), task(120), lr=0.05)
    found.forget(winner)
    assert {id(one.patient) for one in (found.untreated.runner, *found.runners)} == {id(winner.patient)}
