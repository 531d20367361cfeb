import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Patient
from frostline.diagnosis.experiments.observer import observe
from helpers_health import FEATURES, mlp, normed, sgd, task


def seen(model, data=None, **options):
    data = data or task()
    return observe(Patient(model, sgd(model, **options)), data, data[-8:], F.cross_entropy)


def test_statistics_that_lag_are_measured():
    far = [(5 * inputs + 20, target) for inputs, target in task()]
    facts = seen(normed(momentum=1e-3), far, lr=1e-3).evidence.norms
    assert facts.momentum == 1e-3
    assert facts.eval_loss > facts.exact_loss + 0.2
    assert facts.exact_loss == pytest.approx(facts.train_loss, abs=0.1)


def test_a_frozen_norm_that_moves_is_named():
    model = normed()
    model[1].requires_grad_(False)
    assert seen(model).evidence.norms.moving_in_frozen == ("1",)
    model[1].eval()
    model[1].train = lambda mode=True: model[1]  # as frostline.freeze pins it
    assert seen(model).evidence.norms is None


def test_a_model_without_batchnorm_has_no_facts_of_it():
    assert seen(mlp()).evidence.norms is None


def test_statistics_of_one_value_per_channel_and_of_images_are_counted():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 36, 3), nn.BatchNorm1d(3))
    data = [(torch.randn(4, 1, 8, 8), torch.randint(3, (4,))) for _ in range(4)]
    facts = observe(Patient(model, sgd(model)), data, data[-1:], F.cross_entropy).evidence.norms
    assert facts.layers == ("1", "4")
    assert facts.smallest_batch == 4
    without = nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    facts = seen(without).evidence.norms
    assert (facts.layers, facts.smallest_batch, facts.eval_loss) == (("1",), None, None)
