import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Patient, Score, diagnosis_of
from frostline.diagnosis.experiments.examination import Suspicion, examine, is_skilled
from frostline.diagnosis.experiments.treatments import Remedy
from frostline.diagnosis.rules import RULES
from helpers_health import mlp, sgd, sick_sigmoids, task
from remedies.surgeon import fingerprint, same


def examined(model=None, data=None, *, lr=0.05, **options):
    model, data = model or mlp(), data or task(40)
    return examine(Patient(model, sgd(model, lr=lr)), data[:-8], data[-8:], F.cross_entropy, **options)


def remedy(apply, **options):
    return Suspicion(Remedy("something", ("vanishing",), apply, **options), "vanishing", False, True)


def nothing(*_):
    pass


def refuse(*_):
    raise ValueError("Expected more than 1 value per channel when training")


def spoil(patient, _):
    for parameter in patient.model.parameters():
        nn.init.zeros_(parameter)


def test_a_treatment_that_does_nothing_gains_nothing():
    trial = examined().attempt(remedy(nothing))
    assert (trial.gain, trial.error, trial.loss_ratio) == (0.0, 0.0, 1.0)


def test_a_treatment_that_cannot_be_done_is_one_that_did_not_help():
    trial = examined().attempt(remedy(refuse))
    assert trial.patient is None
    assert trial.gain < 0
    assert "more than 1 value per channel" in trial.failure


def test_the_patient_is_left_as_it_came():
    model = mlp()
    optimizer = sgd(model)
    data = task(20)
    before = fingerprint(model, optimizer)
    examine(Patient(model, optimizer), data[:-4], data[-4:], F.cross_entropy).attempt(remedy(spoil))
    assert same(fingerprint(model, optimizer), before)


def test_clear_symptoms_come_before_tips():
    found = examined(sick_sigmoids())
    order = [suspicion.is_clear for suspicion in found.suspicions()]
    assert order[0]
    assert order == sorted(order, reverse=True)


def test_a_run_that_begins_with_a_schedule_is_not_called_too_slow():
    model, data = mlp(), task(40)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    found = examine(Patient(model, optimizer), data[:-8], data[-8:], F.cross_entropy)
    assert found.rates(both=True)[1]
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 1000)
    found = examine(Patient(model, optimizer), data[:-8], data[-8:], F.cross_entropy)
    assert found.rates(both=True)[1] == []


@pytest.mark.parametrize("both", [True, False])
def test_without_a_symptom_no_rate_is_suspected(both):
    found = replace(examined(lr=0.01), diagnosis=diagnosis_of([], None))
    assert [bool(direction) for direction in found.rates(both=both)] == [both, both]


def test_what_was_wrong_at_the_start_is_a_symptom_where_it_has_gone_since():
    found = examined(sick_sigmoids(), task(60))
    assert "vanishing" in {finding.family for finding in found.start.findings}
    again = replace(found, diagnosis=diagnosis_of([], None))
    assert all(one.has_symptom for one in again.suspicions() if one.family == "vanishing")


def test_who_answers_better_than_with_one_answer_for_all_learns():
    assert examined().is_learning
    assert not examined(sick_sigmoids()).is_learning


@pytest.mark.parametrize(("steps", "is_stuck"), [(40, False), (50, True)])
def test_who_has_had_time_and_learns_nothing_is_stuck(steps, is_stuck):
    found = examined(sick_sigmoids(), task(steps + 8))
    assert found.is_stuck is is_stuck


def test_squashers_of_a_stuck_network_are_suspected_without_a_symptom():
    nothing_found = diagnosis_of([], None)
    found = replace(examined(sick_sigmoids(), task(60)), diagnosis=nothing_found, start=nothing_found)
    (one,) = found.suspicions()
    assert (one.family, one.has_symptom, one.is_issue) == ("vanishing", False, False)
    assert replace(found, data=found.data[:20]).suspicions() == []


@pytest.mark.parametrize(
    ("skill", "loss", "lead", "expected"),
    [(None, 9.0, None, True), (0.11, 1.0, None, True), (0.09, 1.0, None, False), (0.5, 2.0, None, True),
     (0.5, 2.1, None, False), (0.5, 2.1, 0.11, True), (0.5, 2.1, 0.09, False), (0.05, 1.0, 0.5, False),
     (0.5, math.nan, None, True)],
)  # fmt: skip
def test_who_is_skilled_saves_a_tenth_and_is_not_above_where_it_began(skill, loss, lead, expected):
    assert is_skilled(Score(0.5, loss, skill=skill, lead=lead), 2.0) is expected


def test_how_little_is_asked_is_the_callers_choice():
    assert is_skilled(Score(0.5, 1.0, skill=0.01), 2.0, least=0.0)
    assert not is_skilled(Score(0.5, 1.0, skill=0.0), 2.0, least=0.0)


@pytest.mark.parametrize(("epochs", "codes", "is_short"), [(2.4, (), True), (2.6, (), False), (None, (), False),
                                                            (1.0, ("FL402",), False)])  # fmt: skip
def test_after_few_epochs_larger_steps_prove_nothing(epochs, codes, is_short):
    found = examined(lr=0.01, epochs=epochs)
    told = [rule.ABOUT.tip("why.", 1e-6, 1e-3) for rule in RULES if rule.ABOUT.code in codes]
    found = replace(found, diagnosis=diagnosis_of(told, None))
    assert found.is_short is is_short
    assert bool(found.rates(both=True)[1]) is not is_short


def test_steps_are_counted_by_the_optimizers_own():
    model = mlp()
    found = examine(Patient(model, sgd(model), accumulation=3), task(32), task(8), F.cross_entropy)
    assert found.num_steps == 10


def test_a_loss_that_does_not_fit_is_a_misfit_only_as_an_issue():
    about = next(rule.ABOUT for rule in RULES if rule.ABOUT.code == "FL503")
    found = examined()
    assert found.certain_cause is None
    assert replace(found, diagnosis=diagnosis_of([about.issue("why.", None, None)], None)).certain_cause
    assert not replace(found, diagnosis=diagnosis_of([about.tip("why.", None, None)], None)).certain_cause


def with_codes(found, *codes, outcome="tip"):
    told = [getattr(rule.ABOUT, outcome)("why.", None, None) for rule in RULES if rule.ABOUT.code in codes]
    return replace(found, diagnosis=diagnosis_of(told, None))


@pytest.mark.parametrize("code", ["FL102", "FL103", "FL201", "FL401", "FL403", "FL502"])
def test_what_steps_that_are_too_large_can_bring_speaks_for_smaller_ones(code):
    slower, faster = with_codes(examined(), code).rates(both=False)
    assert slower
    assert faster == []
    assert with_codes(examined(), "FL101").rates(both=False) == [[], []]
    assert with_codes(examined(lr=1e-4), "FL402").rates(both=False)[1]


def test_a_rate_is_lowered_a_little_only_where_steps_look_too_large():
    assert len(with_codes(examined(), "FL401").rates(both=True)) == 3
    assert len(with_codes(examined(), "FL401").rates(both=False)) == 2
    assert len(with_codes(examined(), "FL402").rates(both=True)) == 2


@pytest.mark.parametrize(("both", "has_symptom"), [(True, True), (False, False)])
def test_what_has_grown_while_training_is_a_symptom_of_large_steps(both, has_symptom):
    grown = with_codes(examined(), "FL102")
    assert {one.has_symptom for one in grown.rates(both=both)[0]} == {has_symptom}
    there = replace(grown, start=grown.diagnosis)
    assert {one.has_symptom for one in there.rates(both=both)[0]} == {False}


def test_rates_of_a_clear_finding_are_clear():
    assert {one.is_clear for one in with_codes(examined(), "FL401", outcome="issue").rates(both=True)[0]} == {True}
    assert {one.is_clear for one in with_codes(examined(), "FL401").rates(both=True)[0]} == {False}
    assert {one.is_issue for one in with_codes(examined(), "FL401", outcome="issue").rates(both=True)[0]} == {True}


def test_a_trial_is_scored_against_the_untreated_network():
    found = examined()
    better = replace(found, seen=replace(found.seen, score=replace(found.seen.score, loss=4.0)))
    half = better.attempt(remedy(nothing))
    assert half.loss_ratio == pytest.approx(found.seen.score.loss / 4.0)
    below = replace(found, seen=replace(found.seen, score=replace(found.seen.score, loss=-1.0)))
    assert below.attempt(remedy(nothing)).loss_ratio == pytest.approx(2 + found.seen.score.loss)
    for loss in (math.nan, 0.0):
        unknown = replace(found, seen=replace(found.seen, score=replace(found.seen.score, loss=loss)))
        assert unknown.attempt(remedy(nothing)).loss_ratio == 0.0


def test_what_is_left_to_do_after_training_is_done_before_the_score():
    calls = []
    trial = examined().attempt(
        remedy(nothing, finish=lambda patient, data: calls.append(len(data)) or spoil(patient, data))
    )
    assert calls == [32]
    assert trial.gain < 0


def test_pairs_are_of_factors_that_are_clear_or_of_a_network_that_learns_nothing():
    found = examined()
    tried = [
        replace(
            found.attempt(Suspicion(Remedy("r", ("input_scale",), nothing, code=code), "input_scale", is_clear, True)),
            gain=gain,
        )
        for code, is_clear, gain in (("FL501", True, 0.0), ("FL505", True, 0.1), ("FL201", False, 0.2))
    ]
    pairs = found.pairs(tried)
    assert [tuple(one.remedy.code for one in pair.parts) for pair in pairs] == [("FL505", "FL501")]
    assert pairs[0].name == "r, and r"
    assert found.pairs(tried[1:]) == []


def test_both_factors_of_a_pair_are_undone():
    done = []
    first, second = (remedy(lambda *_, at=at: done.append(at)) for at in (1, 2))
    trial = examined().attempt(replace(first, partner=second))
    assert (done, trial.failure) == ([1, 2], "")
