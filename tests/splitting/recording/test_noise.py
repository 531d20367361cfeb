import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, unanswered, x


class Dropped(nn.Module):
    """A layer that Python decides to leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, D)

    def forward(self, x):
        return x if self.training and random.random() < 0.5 else self.layer(x)


def _numpy_drop(m, x):
    y = m.high(unanswered(m, x))
    return y * 0 if m.training and np.random.rand() < 0.01 else y


def _python_drop(m, x):
    y = m.high(unanswered(m, x))
    return y * 0 if m.training and random.random() < 0.01 else y


@pytest.mark.parametrize("forward", [_numpy_drop, _python_drop])
def test_what_python_decides_by_chance_is_refused(forward):
    with pytest.raises(fl.SplitError, match="random numbers from Python or NumPy") as error:
        fl.split(Net(forward), x(4))
    assert "of its own" in error.value.do


def test_a_module_that_is_called_whole_may_draw():
    model = Net(lambda m, x: m.code(m.high(m.low(x))), high=Dropped())
    split = check(model, x(4), names=["low"])
    split.head.train()
    features = split.extract(x(3))
    random.seed(0)
    found = {bool(torch.equal(split.head(*features), model.code(features[0]))) for _ in range(20)}
    assert found == {True, False}


def test_an_augmentation_in_the_forward_of_a_mixed_module_is_refused():
    model = Net(lambda m, x: m.high(m.low(x.flip(1) if m.training and random.random() < 0.5 else x)))
    with pytest.raises(fl.SplitError, match="random numbers from Python or NumPy") as error:
        fl.split(model, x(4))
    assert "transform" in error.value.do


class Flip(nn.Module):
    def forward(self, x):
        return x.flip(1) if self.training and random.random() < 0.5 else x


def test_an_augmentation_layer_before_the_frozen_part_has_to_be_frozen():
    model = nn.Sequential(Flip(), nn.Linear(D, D), nn.Linear(D, 2))
    model[1].requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="'0' draws random numbers and feeds frozen layers"):
        fl.split(model, x(4))
    fl.freeze(model, modules=[model[0]])
    check(model, x(4), names=["1"])


def _dropped(m, batch):
    h = unanswered(m, batch)
    return m.code(h if m.training and torch.rand([]) < m.rate else m.high(h))


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_layer_drop_is_refused_with_how_to_turn_it_off(rate):
    model = Net(_dropped)
    model.rate = rate
    with pytest.raises(fl.SplitError, match="layer drop") as error:
        fl.split(model, x(4))
    assert "rate of the layer drop to 0" in error.value.do


@pytest.mark.parametrize("rate", [0, 0.0])
def test_layer_drop_with_the_rate_0_is_no_layer_drop(rate):
    model = Net(_dropped)
    model.rate = rate
    check(model, x(4))


@pytest.mark.parametrize("draw", [torch.randn, lambda shape: torch.rand(shape) - 0.5, lambda shape: -torch.rand(shape)])
def test_other_numbers_may_fall_below_a_rate_of_0(draw):
    def forward(m, batch):
        h = unanswered(m, batch)
        return m.code(h if m.training and draw([]) < 0 else m.high(h))

    with pytest.raises(fl.SplitError, match="layer drop"):
        fl.split(Net(forward), x(4))


def test_noise_of_the_trainable_part_that_decides_is_refused_in_both_modes():
    model = Net(lambda m, x: m.high(unanswered(m, x)) * (2 if torch.rand(1).item() < 0.5 else 1))
    with pytest.raises(fl.SplitError, match="layer drop"):
        fl.split(model, x(4))


def _noisy_before_a_value(m, batch):
    low = m.low(batch)
    noisy = low * (1 + torch.rand(len(low), 1))
    return m.high(noisy * 0.5 if low.sum(1).max().item() < 1e6 else noisy)


def test_a_proof_that_is_due_leaves_the_noise_of_the_caller_as_it_is():
    model = Net(_noisy_before_a_value)
    split = fl.split(model, x(4))
    batch = x(5)
    before = torch.get_rng_state()
    features = split.extract(batch)
    assert torch.equal(torch.get_rng_state(), before)
    fresh = fl.split(model, x(4))
    for made in (fresh, fresh):  # at the first call of this size the head is proven, at the second it is not
        torch.manual_seed(1)
        found = made.head(*features)
        torch.manual_seed(1)
        assert torch.equal(found, model(batch))


class Noisy(nn.Linear):
    """A layer that draws in inference mode, too."""

    def forward(self, batch):
        return nn.functional.dropout(super().forward(batch), 0.5)


def test_a_frozen_layer_that_draws_in_inference_mode_is_told_what_its_mode_cannot_help():
    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.low = Noisy(D, D).requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="low draws random numbers") as error:
        fl.split(model, x(4))
    assert "in training mode" in error.value.where
    fl.freeze(model, modules=[model.get_submodule("low")])  # as the remedy says
    with pytest.raises(fl.NotCacheable, match="low draws random numbers") as error:
        fl.split(model, x(4))
    assert "in inference mode" in error.value.where
    assert "draw only if self.training" in error.value.do


def test_statistics_of_the_batch_in_inference_mode_are_told_as_such():
    model = Net(lambda m, batch: m.high(m.norm(m.low(batch))), norm=nn.BatchNorm1d(D, track_running_stats=False))
    fl.freeze(model, modules=[model.low, model.norm])
    with pytest.raises(fl.NotCacheable, match="norm uses the statistics of the batch") as error:
        fl.split(model, x(4))
    assert "track_running_stats=True" in error.value.do


def test_a_generator_of_the_models_own_is_named():
    def forward(m, batch):
        return m.high(unanswered(m, batch) + torch.randn(len(batch), D, generator=m.own))

    model = Net(forward)
    model.own = torch.Generator().manual_seed(0)
    with pytest.raises(fl.NotCacheable, match="'own'") as error:
        fl.split(model, x(4))
    assert "torch.manual_seed" in error.value.do


@pytest.mark.parametrize(
    "drop",
    [
        lambda m, h: m.drop(h),
        lambda m, h: F.dropout(h, training=m.training),
    ],
)
def test_noise_that_a_trainable_layer_takes_may_reach_frozen_layers_behind_it(drop):
    model = Net(lambda m, x: m.code(m.high(drop(m, m.low(x)))), drop=nn.Dropout())
    fl.freeze(model, modules=[model.code])
    split = check(model, x(4), names=["low"])
    assert not any("inference mode" in note for note in split.explain().notes)  # nothing is left out


def test_all_frozen_modules_with_running_statistics_are_named_at_once():
    blocks = [nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D)) for _ in range(2)]
    model = nn.Sequential(*blocks, nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D)), nn.Linear(D, 2)).eval()
    for parameter in model[:2].parameters():
        parameter.requires_grad = False
    with pytest.raises(fl.NotCacheable) as error:
        fl.split(model, x(4))
    assert "for name in ['0', '1']]), then split again" in error.value.do
    assert "model.eval() lasts until the training calls model.train()" in error.value.received
    fl.freeze(model, modules=[model.get_submodule(name) for name in ["0", "1"]])
    assert [own.name for own in fl.split(model, x(4)).frontier] == ["1"]


def frozen_by_hand():
    """Blocks with dropout, frozen by their weights alone, and a trainable block among them."""
    blocks = [nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5)) for _ in range(5)]
    model = nn.Sequential(*blocks, nn.Linear(D, 2))
    for at in (0, 1, 2, 4):
        model[at].requires_grad_(False)
    return model


def test_all_blocks_with_dropout_below_the_line_are_named_at_once():
    """A remedy that names one layer at a time is no remedy for a network of twelve; what is above the line is left."""
    model = frozen_by_hand()
    with pytest.raises(fl.NotCacheable, match="not deterministic") as error:
        fl.split(model, x(4))
    assert "for name in ['0', '1', '2']]" in error.value.do
    fl.freeze(model, modules=[model.get_submodule(name) for name in ["0", "1", "2"]])
    assert [tensor.name for tensor in fl.split(model, x(4)).frontier] == ["2"]


def test_a_line_that_always_draws_is_not_sent_to_a_freeze_that_does_not_help():
    class Masking(nn.Linear):
        def forward(self, batch):
            return super().forward(batch) * (torch.rand(batch.shape[1]) > 0.5)

    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.low = Masking(D, D).requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="draws random numbers") as error:
        fl.split(model, x(4))
    assert "If it always draws (random masking), nothing can be stored" in error.value.do
