import random

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, x


class Dropped(nn.Module):
    """A layer that Python decides to leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, D)

    def forward(self, x):
        return x if self.training and random.random() < 0.5 else self.layer(x)


def _numpy_drop(m, x):
    y = m.high(m.low(x))
    return y * 0 if m.training and np.random.rand() < 0.01 else y


def _python_drop(m, x):
    y = m.high(m.low(x))
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


def test_an_augmentation_before_the_frozen_part_is_left_out_and_said():
    model = Net(lambda m, x: m.high(m.low(x.flip(1) if m.training and random.random() < 0.5 else x)))
    split = check(model, x(4), names=["low"])
    (note,) = split.explain().notes
    assert "draws from Python or NumPy" in note
    assert "inference mode" in note


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
