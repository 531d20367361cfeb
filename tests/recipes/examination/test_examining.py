from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.health import Patient, diagnosis_of
from frostline.recipes.examination.examining import Suspicion, examine
from frostline.recipes.examination.treatments import Remedy
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
