import copy
import pickle

import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import (
    FORWARDS,
    D,
    Net,
    check,
    x,
)


def test_replaced_buffers_in_the_trainable_part_are_followed():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(D, D), nn.Linear(D, D)
            self.register_buffer("mean", torch.zeros(D))

        def forward(self, x):
            y = self.high(self.low(x))
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
            return y - self.mean

    model = Running()
    fl.freeze(model, through="low")
    split = check(model, x(4))
    other = copy.deepcopy(model)
    batch = x()
    split.head.train()
    split.head(*split.extract(batch))
    other.train()
    other(batch)
    assert torch.equal(model.mean, other.mean)
    assert model.mean.abs().sum() > 0


def test_a_deep_copy_of_model_and_head_together_keeps_the_sharing():
    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    model_copy, head_copy = copy.deepcopy((model, split.head))
    assert head_copy.get_parameter("high.weight") is model_copy.high.weight
    alone = copy.deepcopy(split.head)
    assert alone.get_parameter("high.weight") is not model.high.weight
    features = split.extract(x())
    assert torch.equal(alone(*features), split.head(*features))


def test_a_replaced_parameter_is_refused():
    model = Net(FORWARDS["functional weight"])
    split = check(model, x(4))
    features = split.extract(x())
    model.high.weight = nn.Parameter(torch.zeros(D, D))
    with pytest.raises(fl.SplitError, match="changed after it was split: 'high.weight'"):
        split.head(*features)


def test_a_number_that_is_annealed_is_refused():
    model = Net(lambda m, x: m.high(m.low(x)) * m.scale)
    model.scale = 1.0
    split = check(model, x(4))
    features = split.extract(x())
    model.scale = 0.5
    with pytest.raises(fl.SplitError, match="'scale' is not what the head was made from"):
        split.head(*features)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.norm, self.high = nn.Linear(D, D), nn.BatchNorm1d(D), nn.Linear(D, 2)
        self.scale = nn.Parameter(torch.ones(D))

    def forward(self, x):
        hidden = self.low(x) * self.scale
        return self.high(self.norm(hidden) + hidden), {"norm": hidden.norm(dim=1)}


def test_a_head_is_pickled_with_its_model_as_trainers_export_it():
    model = Scaled()
    fl.freeze(model, modules=[model.low])
    split = fl.split(model, x(4))
    other, head = pickle.loads(pickle.dumps((model, split.head)))
    for mode in (True, False):
        split.head.train(mode)
        head.train(mode)
        features = split.extract(x(5))
        torch.testing.assert_close(head(*features), split.head(*features))
    torch.optim.SGD(head.parameters(), lr=0.1).zero_grad()
    head(*features)[0].sum().backward()
    assert other.scale.grad is not None
    assert model.scale.grad is None
    assert head.code == split.head.code
    torch.testing.assert_close(other.norm.running_mean, model.norm.running_mean)


class Long(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.scale = nn.Linear(D, D), nn.Parameter(torch.ones(D))

    def forward(self, x):
        x = self.low(x)
        for _ in range(1500):
            x = x * self.scale
        return x


def test_a_long_head_is_pickled_too():
    model = Long()
    fl.freeze(model, modules=[model.low])
    split = fl.split(model, x(4))
    head, features = pickle.loads(pickle.dumps(split.head)), split.extract(x(3))
    torch.testing.assert_close(head(*features), split.head(*features))
