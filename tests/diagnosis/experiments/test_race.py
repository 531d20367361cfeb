import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Patient, Score, diagnosis_of
from frostline.diagnosis.experiments import race as racing
from frostline.diagnosis.experiments.race import Race
from frostline.diagnosis.experiments.running import Runner
from frostline.diagnosis.experiments.treatments import BATCHNORM
from frostline.diagnosis.rules import RULES
from helpers_health import mlp, sgd, sick_sigmoids, task
from remedies.surgeon import fingerprint, same

LEG = 10


def race(model=None, data=None, *, start=0, legs=4, lr=0.1, **options):
    model, data = model or mlp(), data or task(80)
    return Race(
        Patient(model, sgd(model, lr=lr)), data[:-10], data[-10:], F.cross_entropy, start=start, leg=LEG, legs=legs,
        **options,
    )  # fmt: skip


def ran(*args, **options):
    found = race(*args, **options)
    return found, found.run()


def test_the_one_without_treatment_wins_where_nothing_is_wrong():
    found, winner = ran()
    assert winner is found.base
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
    assert winner.loss < 0.96 * found.base.scores[max(winner.scores)].loss


def test_losers_are_let_go():
    found, winner = ran(sick_sigmoids(), task(120), lr=0.05)
    out = [one for one in found.runners if one.failure]
    assert all(one.patient is found._patient for one in out)
    assert winner.patient is not found._patient


def test_all_have_the_same_batches_and_the_same_noise():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3))
    found = race(model, task(60), lr=0.05)
    with found._observer:
        found._bring_base(2 * LEG)
        (suspicion,) = [one for one in found.seen.rates(both=True)[0][:1]]
        idle = replace(suspicion, remedy=replace(suspicion.remedy, apply=lambda *_: None))
        other = found._new(idle, 2 * LEG)
        assert not found._bring(other, LEG)
        found._advance(other, 2 * LEG)
    assert other.score == found.base.score


def test_a_race_begins_where_the_last_one_ended():
    _found, winner = ran(start=30, legs=2)
    assert list(winner.scores) == [40, 50]
    assert winner.steps == 50


def test_what_a_later_race_sees_is_told_by_the_steps_of_the_whole_training():
    data = task(80)
    data[40][0][3] *= 1e4
    found, _winner = ran(data=data, start=30, legs=2)
    evidence = found.seen.seen.evidence
    assert (evidence.outliers.step, evidence.outliers.samples) == (40, (3,))
    assert evidence.records[0].step == evidence.losses[0][0] == 30
    assert "FL302" not in found.seen.codes  # nothing is said of a first step that was not seen


def test_what_was_kept_is_not_tried_again():
    _found, winner = ran(sick_sigmoids(), task(120), lr=0.05)
    again, _other = ran(sick_sigmoids(), task(120), lr=0.05, kept=[winner.suspicion])
    names = {one.suspicion.remedy.name for one in again.runners}
    assert winner.suspicion.remedy.name not in names


def test_a_treatment_that_cannot_be_done_is_out():
    found = race()
    with found._observer:
        found._bring_base(LEG)
        suspicion = found.seen.rates(both=True)[0][0]

        def refuse(*_):
            raise ValueError("Expected more than 1 value per channel when training")

        one = found._new(replace(suspicion, remedy=replace(suspicion.remedy, apply=refuse)), LEG)
    assert "it cannot be done here: ValueError: Expected more than 1 value" in one.failure
    assert one.scores == {}
    assert one.loss == math.inf


def test_one_that_breaks_down_starts_anew_where_nothing_helps():
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    found, winner = ran(model)
    assert not math.isfinite(found.base.loss)
    assert math.isfinite(winner.loss) if winner.suspicion is not None else winner.steps == 0


def suspected(found, *, factor=1.0, **options):
    """A treatment that sets the rate to `factor` of it, suspected for what `options` say."""
    suspicion = found.seen.rates(both=True)[0][0]

    def apply(patient, _):
        for group in patient.optimizer.param_groups:
            group["lr"] *= factor

    remedy = replace(suspicion.remedy, apply=apply, name=f"times {factor}", key=f"times {factor}")
    return replace(suspicion, **{"remedy": remedy, "is_issue": True, "has_symptom": True, **options})


def test_who_enters_late_stops_where_it_falls_behind():
    found = race(lr=0.1)
    with found._observer:
        found._bring_base(3 * LEG)
        one = found._new(suspected(found, factor=0.0), 3 * LEG)
        assert not found._bring(one, 3 * LEG)
    assert max(one.scores) < 3 * LEG
    assert f"not clearly better than without after {max(one.scores)} steps" in one.failure


def test_who_enters_late_wins_on_the_way():
    found = race(lr=1e-4)
    with found._observer:
        found._bring_base(3 * LEG)
        one = found._new(suspected(found, factor=1e3), 3 * LEG)
        assert found._bring(one, 3 * LEG)
    assert list(one.scores) == [LEG]


def test_of_rates_the_next_is_tried_as_long_as_it_is_better():
    found = race(lr=1e-5)
    with found._observer:
        found._bring_base(LEG)
        line = [suspected(found, factor=factor) for factor in (1e2, 1e4, 1e9, 1e3)]
        winner = found._along(line, LEG)
    assert winner.suspicion is line[1]
    assert [one.suspicion for one in found.runners] == line[:3]


def test_a_network_that_was_slow_at_first_and_learns_is_left_alone():
    found = race(lr=0.02)
    with found._observer:
        found._bring_base(LEG)
        one = found._new(suspected(found, factor=30.0, has_symptom=False, is_issue=False, family="x"), LEG)
        assert not found._bring(one, LEG)
    assert one.score.loss < 0.8 * found.base.scores[LEG].loss
    assert found._learns(found.base.scores[2 * LEG])
    assert not one.failure


def test_there_is_an_end_to_the_steps_of_all():
    found = race(lr=0.1)
    with found._observer:
        found._bring_base(2 * LEG)
        first = suspected(found)
        assert found._has_room(first, 2 * LEG)
        found.runners.append(Runner(found._patient, first, steps=50))
        assert not found._has_room(first, 2 * LEG)
        found.runners[0].steps = 30
        assert found._has_room(first, 2 * LEG)
        assert found._has_room(replace(first, is_issue=False), 2 * LEG)
        assert not found._has_room(replace(first, is_issue=False, is_clear=False), 2 * LEG)


def test_what_the_untreated_one_left_out_needs_no_treatment():
    data = task(80)
    data[3][0][0, 0] = math.nan
    found, winner = ran(data=data)
    assert found.seen.codes >= {"FL502"}
    assert found.base.num_skipped == 1
    assert "nonfinite" not in {one.suspicion.family for one in found.runners}
    assert winner is found.base


def test_inputs_in_another_unit_are_scaled_where_nothing_is_learnt_and_nothing_lost():
    found = race(lr=0.0)
    with found._observer:
        found._bring_base(2 * LEG)
        scaled = suspected(found, family="input_scale")
        one = found._new(scaled, 2 * LEG)
        assert found._bring(one, 2 * LEG)
    assert list(one.scores) == [LEG, 2 * LEG]
    assert one.score.loss == found.base.scores[2 * LEG].loss


def test_nothing_that_is_not_finite_wins():
    model, data = mlp(), [(inputs * math.nan, target) for inputs, target in task(80)]
    found = race(model, data)
    assert found.run().suspicion is None
    model = mlp()
    with torch.no_grad():
        model[-1].bias[0] = math.nan
    found, winner = ran(model)
    assert winner.suspicion is None or math.isfinite(winner.loss)


def in_race(found, loss, *, steps=LEG, share=0.5, lead=0.5, **options):
    """One that has come so far, with this score."""
    one = Runner(found._patient.copy(), suspected(found, **options), steps=steps)
    one.scores[steps] = Score(share, loss, skill=0.5, lead=lead)
    found.runners.append(one)
    return one


@pytest.mark.parametrize(
    ("loss", "steps", "options", "why"),
    [
        (math.nan, LEG, {}, "its loss is not finite"),
        (0.1, LEG, {"has_symptom": False}, "no rule has found what it treats"),
        (0.1, 50, {}, "the batches end before it can be told from a faster start: give more of them"),
        (9.0, 50, {}, "its lead is too small to be sure"), (0.1, LEG, {}, "its lead is too small to be sure"),
    ],
)  # fmt: skip
def test_why_one_has_not_won_is_told(loss, steps, options, why):
    found = race()
    with found._observer:
        found._bring_base(LEG)
        one = in_race(found, loss, steps=steps, **options)
        found.seen = replace(found.seen, diagnosis=diagnosis_of([], None))
        assert found._what_lacks(one) == why


def test_of_those_that_still_run_the_best_two_stay_and_later_one():
    for mark, kept in ((30, 2), (40, 1)):
        found = race()
        with found._observer:
            found._bring_base(mark)
            runners = [in_race(found, loss, steps=mark) for loss in (0.3, 0.1, 0.2)]
            assert found._bring_all(mark) is None
        assert [one.loss for one in found._running()] == [0.1, 0.2, 0.3][:kept]
        assert runners[0].failure == f"another was ahead of it after {mark} steps"


def test_none_is_left_out_for_one_whose_loss_is_not_finite():
    found = race()
    with found._observer:
        found._bring_base(40)
        for _ in range(3):
            in_race(found, math.nan, steps=40)
        found._bring_all(40)
    assert len(found._running()) == 3


def test_marks_end_before_the_steps_in_which_the_rules_are_asked_again():
    data = task(60)  # fifty to train on
    assert list(race(data=data, legs=9)._marks) == [10, 20, 30, 40]
    assert race(data=data)._end == 40
    assert list(race(data=data, legs=2)._marks) == [10, 20]
    assert list(race(data=data, start=20, legs=9)._marks) == [30, 40]
    short = race(data=task(22))  # twelve: one mark in any case
    assert (list(short._marks), short._end) == ([10], 10)


def test_what_was_wrong_first_is_tried_first():
    def line(name, family="vanishing", **options):
        return replace(
            suspected(found, family=family),
            remedy=replace(clip, name=name, key=name, **options.pop("own", {})),
            **options,
        )

    found = race()
    with found._observer:
        found._bring_base(LEG)
        clip = found.seen.rates(both=True)[0][0].remedy
        late, early = line("late", is_late=True), line("early", is_late=False)
        spikes, due = line("clip", is_late=True), line("due", is_late=True, own={"is_due": True})
        nonfinite = line("skip", "nonfinite", is_late=False)
        rates = [[line("slower")], [line("f0"), line("f1"), line("f2"), line("f3")]]
        for codes, order in (
            ({"FL103"}, ["due", "early", "clip", "slower", "late", "due", "f2 f3", "f1 f0"]),
            (set(), ["due", "early", "slower", "late", "clip", "due", "f2 f3", "f1 f0"]),
        ):
            found.seen = SimpleNamespace(
                suspicions=lambda: [late, early, spikes, due, nonfinite], rates=lambda both: rates, is_stuck=False,
                codes=codes,
            )  # fmt: skip
            assert [" ".join(one.remedy.name for one in part) for part in found._lines()] == order
        found.base.scores[LEG] = Score(0.0, math.nan)  # what it has left out has done harm
        assert [nonfinite] in found._lines()


def test_a_stuck_network_without_a_symptom_gets_faster_rates():
    found = race()
    with found._observer:
        found._bring_base(LEG)
        other = suspected(found)
        for is_stuck, slower, expected in ((True, [], 1), (False, [], 0), (True, [other], 0)):
            found.seen = SimpleNamespace(
                suspicions=list, is_stuck=is_stuck, codes=set(),
                rates=lambda both, own=slower: (own, [other] if both else []),
            )  # fmt: skip
            assert sum(len(part) for part in found._lines()) == expected + len(slower)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True), ({"steps": 5}, False), ({"has_symptom": False}, False), ({"loss": 0.99}, False),
        ({"share": 0.52}, False), ({"name": BATCHNORM}, True), ({"name": BATCHNORM, "is_issue": False}, False),
    ],
)  # fmt: skip
def test_who_leads_at_the_end_of_a_race_must_lead_clearly(changes, expected):
    found = race(lr=0.0)  # the untreated one stays where it is
    loss, share, name = changes.pop("loss", 0.5), changes.pop("share", 0.9), changes.pop("name", "x")
    with found._observer:
        found._bring_base(20)
        for mark, score_ in list(found.base.scores.items()):
            found.base.scores[mark] = replace(score_, loss=1.0, share=0.5, samples=())
        one = in_race(found, loss, steps=changes.pop("steps", 20), share=share, **changes)
        one.scores = {one.steps: Score(share, loss)}
        one.suspicion = replace(one.suspicion, remedy=replace(one.suspicion.remedy, name=name, key=name))
        later = found._bring_base
        found._bring_base = lambda mark: (later(mark), found.base.scores.update({mark: Score(0.5, 1.0)}))
        found._is_healthy = lambda *_: True
        found._learns = lambda *_, **__: True
        margin = Score.gain_over
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Score, "gain_over", lambda own, other: (margin(own, other)[0], 0.0))
            assert found._is_ahead_at_last(one) is expected


def test_a_sickness_that_stands_or_is_new_is_no_cure(monkeypatch):
    found = race()
    with found._observer:
        found._bring_base(20)
    about = {rule.ABOUT.code: rule.ABOUT for rule in RULES}

    def issues(*codes):
        return diagnosis_of([about[code].issue("why.", None, None) for code in codes], None)

    for known, now, learns, expected in (
        (["FL101"], [], True, True), (["FL101"], ["FL101"], True, False), (["FL101"], ["FL201"], True, False),
        (["FL101"], ["FL201"], False, True), (["FL101"], ["FL101"], False, False),
        (["FL101", "FL201"], ["FL201"], True, True),
    ):  # fmt: skip
        one = in_race(found, 0.1, steps=20, family="vanishing")
        found.seen = replace(found.seen, diagnosis=issues(*known))
        monkeypatch.setattr(racing, "watched", lambda *_, own=now, **__: issues(*own))
        found._learns = lambda *_, own=learns, **__: own
        assert found._is_healthy(one, one.suspicion) is expected
        assert one.issues == tuple(now)
        assert one.failure == ("" if expected else f"{now[0]} stands or is new")
    one.steps = len(found._data)
    assert not found._is_healthy(one, one.suspicion)  # nothing is left to see it by


def test_ten_steps_are_asked_wherever_a_race_begins():
    found = race(start=30, lr=0.0)
    with found._observer:
        found._bring_base(40)
        one = in_race(found, 0.01, steps=40)
        found.base.scores |= {35: Score(0.1, 9.0), 40: Score(0.1, 9.0)}
        one.scores = {35: one.score, 40: one.score}
        found._is_healthy = lambda *_: True
        found._is_ahead = lambda *_: True
        one.steps = 35
        assert not found._wins(one)
        one.steps = 40
        assert found._wins(one)


def test_only_the_copy_of_the_best_is_kept():
    found, winner = ran(sick_sigmoids(), task(120), lr=0.05)
    found.forget(winner)
    assert {id(one.patient) for one in (found.base, *found.runners)} == {id(winner.patient)}
