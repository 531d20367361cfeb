import pytest
import torch
from torch import nn

from frostline.diagnosis import Patient
from frostline.diagnosis.experiments.actions import (
    clip_usual,
    clip_with,
    hold_frozen,
    lower_momentum,
    mend_batchnorm,
    reestimate,
    scale_rates,
    skip_nonfinite,
    swap_norms,
)
from frostline.remedies import clip_by_norm
from helpers_health import mlp, sgd, task


def normed(**options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8, **options), nn.ReLU(), nn.Linear(8, 3))


def test_rates_and_those_from_which_schedules_start_are_scaled():
    optimizer = sgd(mlp(), lr=0.2)
    scale_rates(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.1
    torch.optim.lr_scheduler.StepLR(optimizer, 5)
    scale_rates(optimizer, 10.0)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["initial_lr"]) == (1.0, 1.0)


def test_steps_that_are_not_finite_are_left_out_by_the_clip_that_is_there():
    patient, rule = Patient(model := mlp(), sgd(model)), clip_by_norm(1.0)
    skip_nonfinite(patient, [])
    patient.parameters[0].grad = torch.full_like(patient.parameters[0], torch.nan)
    assert patient.clip(patient.parameters).skipped
    clip_with(patient, rule)
    skip_nonfinite(patient, [])
    assert patient.clip is rule


def test_batchnorm_is_mended_replaced_and_held():
    data = [(inputs + 9, target) for inputs, target in task(5)]
    patient = Patient(model := normed(momentum=1e-3), sgd(model))
    mend_batchnorm(patient, data)
    assert model[1].momentum == 0.1
    reestimate(patient, data)
    exact = model[0](torch.cat([inputs for inputs, _ in data])).mean(0)
    assert torch.allclose(model[1].running_mean, exact, atol=1e-3)
    model[1].requires_grad_(False)
    hold_frozen(patient, data)
    assert not model.train()[1].training
    swap_norms(patient, data)
    assert isinstance(model[1], nn.BatchNorm1d)  # a frozen one stays
    patient = Patient(model := normed(), sgd(model))
    swap_norms(patient, data)
    assert isinstance(model[1], nn.GroupNorm)


@pytest.mark.parametrize(("rows", "groups"), [(1, 6), (4, 1)])
def test_a_batchnorm_of_single_images_keeps_its_channels_apart(rows, groups):
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 3))
    images = torch.randn(rows, 1, 6, 6)
    before = model(images).detach()
    swap_norms(Patient(model, sgd(model)), [(images, torch.zeros(rows, dtype=torch.long))])
    assert model[1].num_groups == groups
    is_same = torch.allclose(model.eval()(images), before, atol=1e-5)
    assert is_same is (rows == 1)  # as it was in training


def test_momentum_is_lowered_and_never_raised():
    for own, expected in ((0.99, 0.9), (0.5, 0.5)):
        patient = Patient(model := mlp(), sgd(model, momentum=own))
        lower_momentum(patient, [])
        assert patient.optimizer.param_groups[0]["momentum"] == expected


def threshold(share, rows, norms):
    """At which gradients are clipped after these norms, of batches of so many rows of which a share is far out."""
    model = mlp()
    patient = Patient(model, sgd(model))
    clip_usual(patient, [(torch.zeros(rows, 12), torch.zeros(rows))], 1.0, share)
    for norm in norms:
        for parameter in patient.parameters:
            parameter.grad = torch.zeros_like(parameter)
        patient.parameters[0].grad[0, 0] = norm
        patient.clip(patient.parameters)
    return float(patient.parameters[0].grad[0, 0])


@pytest.mark.parametrize(
    ("share", "rows", "expected"),
    [
        (0.0, 16, 16.5),
        (0.5, 1, 9.25),
        (0.3, 1000, 3.45),
    ],  # of the last 30: the median, a quarter, a twentieth from below
)
def test_the_usual_norm_is_that_of_batches_without_rows_that_are_far_out(share, rows, expected):
    assert threshold(share, rows, [*range(1, 31), 1000.0]) == pytest.approx(expected, rel=1e-3)
