import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Patient, judge
from frostline.diagnosis.experiments.nonfinite_rows import _nonfinite_rows
from frostline.diagnosis.experiments.observer import Observer, observe
from helpers_health import FEATURES, mlp, sgd, task


def test_odd_rows_between_samples_are_found():
    data = task(200)
    data[7][0][5, 2] = math.nan  # every third step is sampled
    model = mlp()
    evidence = observe(Patient(model, sgd(model)), data, data[-8:], F.cross_entropy).evidence
    assert evidence.records[-1].step == 7
    assert evidence.records[-1].nonfinite_samples == (5,)
    assert "FL502" in {finding.code for finding in judge(evidence).findings}


def values(loss_fn, odd):
    data = [(inputs, inputs[:, :1].clone()) for inputs, _ in task()]
    data[7][1][odd] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    return judge(observe(Patient(model, sgd(model)), data, data[-8:], loss_fn).evidence)


def test_targets_that_are_no_numbers_are_named():
    found = [finding for finding in values(F.mse_loss, 5).findings if finding.code == "FL502"]
    assert [finding.layer for finding in found] == ["target"]
    assert "step 7" in found[0].why


def test_targets_that_the_loss_leaves_out_are_no_fault():
    def masked(output, target):
        known = target.isfinite()
        return F.mse_loss(output[known], target[known])

    assert "FL502" not in {finding.code for finding in values(masked, 5).findings}


def masked(output, target):
    known = target.isfinite()
    return F.mse_loss(output[known], target[known])


def diverging(change, loss_fn=masked):
    """Evidence of a run that blows up at a learning rate of 50 within some steps, on data that were changed."""
    data = [(inputs, inputs[:, :3].clone()) for inputs, _ in task()]
    change(data)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 3))
    return observe(Patient(model, sgd(model, lr=50.0)), data, data[-8:], loss_fn).evidence


def mask_late(data):
    data[30][1][:, 0] = math.nan


def mask_all(data):
    for _, target in data:
        target[::3, 1] = math.nan


def input_late(data):
    data[30][0][3, 2] = math.nan


@pytest.mark.parametrize("change", [mask_late, mask_all, input_late])
def test_odd_rows_are_not_blamed_for_what_came_before_them(change):
    evidence = diverging(change)
    first = min(step for step, loss in evidence.losses if not math.isfinite(loss))
    assert 0 < first < 30
    odd = [record for record in evidence.records if record.nonfinite is not None]
    assert odd[0].nonfinite not in {"input", "target"}
    assert odd[0].step <= first
    assert len(evidence.records) == 40


def test_a_target_counts_where_the_loss_was_first_not_finite():
    def change(data):
        data[1][1][4] = data[30][1][5] = math.nan

    record = diverging(change, F.mse_loss).records[-1]
    assert (record.step, record.nonfinite, record.nonfinite_samples) == (1, "target", (4,))


def test_an_input_that_was_left_out_is_named_before_a_later_loss():
    data = [(inputs, inputs[:, :1].clone()) for inputs, _ in task()]
    data[4][0][2, 0] = data[9][1][7] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    with Observer(Patient(model, sgd(model)), data, F.mse_loss, every=3, skips_inputs=True) as observer:
        observer.train(20)
        record = observer.evidence.records[-1]
    assert observer.num_skipped == 1
    assert (record.step, record.nonfinite, record.nonfinite_samples) == (4, "input", (2,))


@pytest.mark.parametrize("part", [0, 1])
def test_of_many_odd_rows_the_first_sixteen_are_told(part):
    data = [(inputs.repeat(3, 1), inputs.repeat(3, 1)[:, :1].clone()) for inputs, _ in task(10)]
    data[1][part][5:40] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    record = observe(Patient(model, sgd(model)), data, data[-2:], F.mse_loss).evidence.records[-1]
    assert (record.nonfinite, record.nonfinite_samples) == (["input", "target"][part], tuple(range(5, 21)))


def test_a_number_beside_the_rows_that_is_none_is_no_row():
    assert _nonfinite_rows({"scale": torch.tensor(math.nan), "x": torch.ones(2, 2)}) is None
    assert _nonfinite_rows({"scale": torch.tensor(math.nan), "x": torch.tensor([1.0, math.inf])}) == [1]
    assert _nonfinite_rows({"ids": torch.arange(3)}) is None
