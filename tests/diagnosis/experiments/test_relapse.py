import math

import torch
from torch.nn import functional as F

from frostline.diagnosis import Patient
from frostline.diagnosis.experiments.marks import BestMark
from frostline.diagnosis.experiments.relapse import LAST, finish, go_on
from frostline.diagnosis.experiments.runner import Runner
from helpers_health import mlp, sgd, task


def runner(lr=0.05):
    model = mlp()
    return Runner(Patient(model, sgd(model, lr=lr)))


def marks(data):
    return BestMark(data[-8:], F.cross_entropy)


def test_a_network_that_learns_trains_to_the_last_steps():
    data, one = task(120), runner()
    assert go_on(one, data, 10, F.cross_entropy, marks(data), []) is None
    assert one.steps == len(data) - LAST


def spoilt(data, at):
    """Targets that belong to other rows from here on: the loss rises, and stays there."""
    return [(x, y if k < at else y.flip(0)) for k, (x, y) in enumerate(data)]


def test_a_network_that_breaks_down_is_taken_back_to_before_that():
    data, one = spoilt(task(240), 136), runner()
    relapse = go_on(one, data, 10, F.cross_entropy, marks(data), [])
    assert relapse is not None
    patient, steps = relapse
    assert steps <= 136
    assert patient is not one.patient
    assert all(bool(torch.isfinite(parameter).all()) for parameter in patient.model.parameters())
    again = runner()
    assert go_on(again, data, 10, F.cross_entropy, marks(data), [], goes_to_the_end=True) is None


def test_the_last_steps_are_judged_and_those_that_break_by_themselves_are_counted():
    data = task(40)
    data[35][0][0] = math.nan
    one = runner()
    one.steps = 20
    diagnosis, num_broken = finish(one, data, [], F.cross_entropy)
    assert one.steps == len(data)
    assert one.num_skipped == 1
    assert num_broken == 0  # its data are not finite
    assert diagnosis.passed
