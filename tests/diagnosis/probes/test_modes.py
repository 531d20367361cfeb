import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis.probes.modes import facts_of_modes, follows_inputs, vary
from helpers_health import CLASSES, FEATURES, mlp, task


class AlwaysDrops(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.head(F.dropout(x, 0.5))


def normed():
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, CLASSES))


def facts(model):
    return facts_of_modes(model, task(1)[0], F.cross_entropy)


def test_layers_in_training_mode_are_none():
    found = facts(normed().train())
    assert (found.never_updated, found.updated_before, found.silent) == ((), (), ())


def test_layers_in_evaluation_mode_are_named():
    model = normed().eval()
    found = facts(model)
    assert (found.never_updated, found.updated_before, found.silent) == (("1",), (), ("3",))
    model[1].running_mean.fill_(0.5)
    assert facts(model).updated_before == ("1",)


@pytest.mark.parametrize("freeze", [lambda m: m[1].requires_grad_(False), lambda m: fl.freeze(m, modules=[m[1]])])
def test_frozen_statistics_are_meant(freeze):
    model = normed().train()
    freeze(model)
    model[1].eval()
    found = facts(model)
    assert (found.never_updated, found.updated_before) == ((), ())


def test_noise_in_evaluation_mode_is_measured():
    assert facts(normed()).redraws == 0.0
    assert facts(AlwaysDrops()).redraws > 0.1


def test_a_network_that_gives_one_output_is_seen():
    model = mlp()
    assert facts(model).is_constant is False
    with torch.no_grad():
        model[-1].weight.zero_()
    assert facts(model).is_constant is True


def test_alike_rows_and_other_outputs_say_nothing():
    model = mlp()
    (inputs, target), *_ = task(1)
    assert facts_of_modes(model, (inputs[:1].expand_as(inputs), target), F.cross_entropy).is_constant is None
    assert facts_of_modes(model, (inputs[:4], target[:4]), F.cross_entropy).is_constant is None
    asks = nn.ModuleDict({"body": model})
    asks.forward = lambda x: {"logits": model(x)}
    found = facts_of_modes(asks, (inputs, target), F.cross_entropy)
    assert (found.redraws, found.is_constant) == (None, None)


class Other(nn.Module):
    """Computes something else in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.head(x) if self.training else -20 * self.head(x)


def test_losses_of_both_modes_and_the_largest_dropout():
    found = facts(Other())
    assert found.eval_loss > 3 * found.train_loss
    same = facts(mlp())
    assert (same.train_loss, same.dropout) == (same.eval_loss, 0.0)
    assert facts(nn.Sequential(nn.Dropout(0.1), nn.Dropout(0.4), nn.Linear(FEATURES, CLASSES))).dropout == 0.4
    assert facts(normed()).train_loss is None  # BatchNorm has a rule of its own


@pytest.mark.parametrize(
    ("inputs", "size", "expected"),
    [
        (torch.ones(8, 3), 8, False), (torch.arange(24.0).view(8, 3), 8, True), (torch.ones(7, 3), 7, None),
        ((torch.ones(8, 3), torch.arange(8.0)), 8, True), (torch.ones(3, 8), 8, None),
    ],
    ids="same differ few second other-axis".split(),
)  # fmt: skip
def test_inputs_vary_if_any_of_them_does(inputs, size, expected):
    assert vary(inputs, size) is expected


class DropsAnswers(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.head, self.share = nn.Linear(FEATURES, CLASSES), share

    def forward(self, x):
        hidden = F.dropout(x, 0.9, self.training)
        return F.dropout(self.head(hidden), self.share, training=self.training).view(-1, CLASSES).softmax(1)


def test_dropout_behind_the_output_layer_is_seen_and_no_other():
    assert facts(DropsAnswers(0.25)).dropped_outputs == 0.25
    assert facts(DropsAnswers(0.25).eval()).dropped_outputs == 0
    assert facts(DropsAnswers(0.0)).dropped_outputs == 0
    assert facts(nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Dropout(0.5))).dropped_outputs == 0.5
    assert facts(normed().train()).dropped_outputs == 0


def test_a_look_at_dropout_leaves_the_model_and_its_noise_as_they_were():
    model = nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.BatchNorm1d(CLASSES), nn.Dropout(0.5))
    before, noise = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    facts(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(noise, torch.get_rng_state())


def test_how_far_outputs_follow_the_inputs_is_measured_at_the_same_noise():
    inputs, _ = task(1)[0]
    linear = nn.Linear(FEATURES, CLASSES)
    assert follows_inputs(linear, inputs) > 0.1
    nn.init.zeros_(linear.weight)
    assert follows_inputs(nn.Sequential(linear, nn.Linear(CLASSES, CLASSES)), inputs) == 0
    assert follows_inputs(nn.Sequential(linear, AlwaysNoisy()), inputs) < 1e-6
    assert follows_inputs(linear, inputs[:2]) is None  # few rows
    assert follows_inputs(linear, torch.ones(16, FEATURES)) is None


class AlwaysNoisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x), x


def test_a_frozen_norm_says_how_far_inputs_spread_over_its_statistics():
    norm = nn.BatchNorm1d(4)
    for _ in range(200):
        norm(255 * torch.randn(64, 4))
    model = nn.Sequential(norm, nn.Linear(4, 3))
    batch = torch.randn(64, 4), torch.zeros(64).long()
    assert facts_of_modes(model, batch, nn.functional.cross_entropy).frozen_unit is None  # it trains
    norm.eval()
    name, times = facts_of_modes(model, batch, nn.functional.cross_entropy).frozen_unit
    assert name == "0"
    assert times == pytest.approx(1 / 255, rel=0.3)


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.state = nn.GRU(4, 3, batch_first=True), None

    def forward(self, inputs):
        hidden, self.state = self.layer(inputs, self.state)
        return hidden[:, -1]


def test_a_state_that_goes_on_is_told_from_noise():
    batch = torch.randn(12, 5, 4), torch.zeros(12).long()
    kept = facts_of_modes(Remembering(), batch, nn.functional.cross_entropy)
    assert kept.remembers
    assert kept.redraws > 1e-3

    class Noisy(nn.Module):
        def forward(self, inputs):
            return inputs.mean(1)[:, :3] + torch.randn(12, 3)

    noisy = facts_of_modes(Noisy(), batch, nn.functional.cross_entropy)
    assert not noisy.remembers
    assert noisy.redraws > 1e-3
