import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Patient
from frostline.diagnosis.experiments import budget as budget_module
from frostline.diagnosis.experiments.budget import EPOCHS, FLOOR_S, Budget, budget_for, clock_of
from helpers_health import mlp, sgd, task
from remedies.surgeon import fingerprint, same


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def timed(monkeypatch, step_s):
    """Every network takes so long for a step."""
    monkeypatch.setattr(budget_module, "_step_seconds", lambda *_: step_s)


def made(data, per_epoch=20, seconds=None, tell=None):
    model = mlp()
    patient = Patient(model, sgd(model))
    return budget_for(patient, data, F.cross_entropy, per_epoch=per_epoch, seconds=seconds, tell=tell)


def test_experiments_are_left_out_when_the_seconds_are_spent():
    clock = Clock()
    budget = Budget(10.0, 2.0, clock=clock)
    assert budget.has_room("first", 5)
    clock.now += 5.0
    assert budget.has_room("second", 2)
    assert not budget.has_room("third", 3)
    assert not budget.has_room("third", 3)
    assert budget.left_out == ["third"]
    assert budget.ended == "the budget of 10 s was spent"


def test_without_a_limit_there_is_always_room():
    clock = Clock()
    budget = Budget(clock=clock)
    clock.now += 1e9
    assert budget.has_room("anything", 1000)


def test_a_training_is_expected_to_take_as_long_as_the_last():
    clock = Clock()
    budget = Budget(10.0, 1.0, clock=clock)
    with budget.training():
        clock.now += 4.0
    assert budget.trial_s == 4.0
    assert budget.has_room("one")
    assert not budget.has_room("two", 2)


def test_after_an_interruption_nothing_is_tried():
    lines = []
    budget = Budget(tell=lines.append)
    budget.interrupt()
    assert not budget.has_room("one")
    assert budget.ended == "the checkup was interrupted"
    assert lines == ["interrupted: what is known so far follows"]


def test_three_epochs_are_the_budget_of_a_slow_network(monkeypatch):
    timed(monkeypatch, 2.0)
    budget = made(task(60), per_epoch=20)
    assert budget.total_s == EPOCHS * 20 * 2.0
    assert 2 <= budget.most < 60 / 2
    assert budget.trial_s == budget.most * 2.0


def test_a_quick_network_has_the_floor_and_trains_on_everything(monkeypatch):
    timed(monkeypatch, 1e-3)
    budget = made(task(60), per_epoch=20)
    assert (budget.total_s, budget.most) == (FLOOR_S, 60)


def test_seconds_that_are_given_count_alone(monkeypatch):
    timed(monkeypatch, 2.0)
    assert made(task(60), seconds=1.0).total_s == 1.0
    assert made(task(60), seconds=1e6).most == 60


@pytest.mark.parametrize(
    ("steps_paid", "available", "most"), [(8_000, 1_000, 1_000), (3_000, 3_000, 375), (1_200, 1_200, 200), (60, 60, 10)]
)
def test_more_experiments_are_made_of_fewer_batches_where_there_are_many(steps_paid, available, most):
    assert budget_module._num_batches(0.5 * steps_paid, 0.5, available) == most


def test_progress_is_told_where_it_takes_long(monkeypatch):
    lines = []
    timed(monkeypatch, 1e-3)
    made(task(60), tell=lines.append)
    assert not lines
    timed(monkeypatch, 1.0)
    budget = made(task(60), per_epoch=20, tell=lines.append)
    (line,) = lines
    assert line.startswith("about 60 s (an epoch of training takes 20 s): copies train on 10 of 60 batches")
    budget.has_room("clip gradients")
    assert lines[-1] == "trying: clip gradients (0 s so far)"


def test_a_network_that_cannot_be_trained_has_no_limit():
    model = nn.Linear(3, 2)
    budget = budget_for(Patient(model, sgd(model)), task(4), F.cross_entropy, per_epoch=4, seconds=None)
    assert (budget.total_s, budget.most) == (math.inf, None)


def test_to_measure_a_step_changes_nothing():
    model = mlp()
    optimizer = sgd(model)
    before = fingerprint(model, optimizer)
    state = torch.get_rng_state()
    budget_for(Patient(model, optimizer), task(12), F.cross_entropy, per_epoch=12, seconds=None)
    assert same(fingerprint(model, optimizer), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_on_a_processor_the_time_of_others_does_not_count():
    assert clock_of(nn.Linear(2, 2)).__name__ == "thread_time"
    assert clock_of(nn.Linear(2, 2, device="meta")).__name__ == "perf_counter"
