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


def examined(model=None, data=None, **options):
    model, data = model or mlp(), data or task(40)
    return examine(Patient(model, sgd(model)), data[:-8], data[-8:], F.cross_entropy, **options)


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
    found, trained = examined()
    trial = found.attempt(remedy(nothing))
    assert (trial.gain, trial.error, trial.loss_ratio) == (0.0, 0.0, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(trial.patient.parameters, trained.parameters, strict=True))


def test_a_treatment_that_cannot_be_done_is_one_that_did_not_help():
    trial = examined()[0].attempt(remedy(refuse))
    assert trial.patient is None
    assert trial.gain < 0
    assert "more than 1 value per channel" in trial.failure


def test_the_patient_is_left_as_it_came():
    model = mlp()
    optimizer = sgd(model)
    data = task(20)
    before = fingerprint(model, optimizer)
    examine(Patient(model, optimizer), data[:-4], data[-4:], F.cross_entropy)[0].attempt(remedy(spoil))
    assert same(fingerprint(model, optimizer), before)


def test_a_weak_suspicion_that_cannot_win_is_broken_off():
    found, _ = examined(skips_nonfinite=True)
    trial = found.attempt(remedy(spoil))
    assert not trial.course.is_whole
    assert len(trial.course.losses) == 16
    assert found.attempt(replace(remedy(spoil), is_clear=True)).course.is_whole
    assert found.attempt(remedy(spoil, finish=nothing)).course.is_whole


def test_clear_symptoms_come_before_tips():
    found, _ = examined(sick_sigmoids())
    order = [suspicion.is_clear for suspicion in found.suspicions()]
    assert order[0]
    assert order == sorted(order, reverse=True)


def test_a_run_that_begins_with_a_schedule_is_not_called_too_slow():
    model, data = mlp(), task(40)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    found, _ = examine(Patient(model, optimizer), data[:-8], data[-8:], F.cross_entropy)
    assert found.rates(both=True)[1]
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 1000)
    found, _ = examine(Patient(model, optimizer), data[:-8], data[-8:], F.cross_entropy)
    assert found.rates(both=True)[1] == []


@pytest.mark.parametrize("both", [True, False])
def test_without_a_symptom_no_rate_is_suspected(both):
    found = replace(examined()[0], diagnosis=diagnosis_of([], None))
    assert [bool(direction) for direction in found.rates(both=both)] == [both, both]


@pytest.mark.parametrize(("losses", "is_learning"), [
    ([2.0, 2.1, 1.9, *[1.0] * 20], True), ([2.0] * 20, False), ([2.0, 2.0, 2.0, *[1.6] * 20], False),
    ([2.0, 1.0], False),
    ([2.0, 2.0, 2.0, *[float("nan")] * 20], False),
])  # fmt: skip
def test_who_learns_has_a_loss_that_goes_down(losses, is_learning):
    found, _ = examined()
    evidence = replace(found.seen.evidence, losses=tuple(enumerate(losses)))
    assert replace(found, seen=replace(found.seen, evidence=evidence)).is_learning is is_learning


def test_tips_can_be_left_out():
    model, data = sick_sigmoids(), task(40)
    found, _ = examined(model, data)
    first, *others = found.diagnosis.findings
    tips = [replace(finding, outcome="tip") for finding in others if finding.family != first.family]
    mixed = diagnosis_of([first, *tips, replace(first, code="FL501", family="input_scale", outcome="tip")], None)
    found = replace(found, diagnosis=mixed)
    kept = found.of_issues
    assert {finding.outcome for finding in kept.diagnosis.findings} == {"issue"}
    assert kept.codes < found.codes
    assert all(one.is_issue for one in kept.suspicions())
