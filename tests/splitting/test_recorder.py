import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, x


def test_train_and_eval_take_their_own_recording():
    model = Net(lambda m, x: m.high(m.drop(m.low(x))), drop=nn.Dropout(0.5))
    split = check(model, x(4))
    features = split.extract(x())
    split.head.eval()
    assert torch.equal(split.head(*features), split.head(*features))
    split.head.train()
    assert not torch.equal(split.head(*features), split.head(*features))


def test_batch_statistics_in_the_frozen_part_are_named():
    model = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Linear(D, 2))
    for parameter in [*model[0].parameters(), *model[1].parameters()]:
        parameter.requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="Cannot cache the output of '1'") as error:
        fl.split(model, x(4))
    assert "training mode" in error.value.where
    fl.freeze(model, through="1")
    check(model, x(4))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        self.calls += 1
        return x * self.weight


def test_a_frozen_part_that_counts_is_refused():
    model = nn.Sequential(Counting(), nn.Linear(D, 2))
    fl.freeze(model, through="0")
    with pytest.raises(fl.NotCacheable, match="'0.calls' is written during the forward pass"):
        fl.split(model, x(4))


def test_a_frozen_part_that_replaces_its_buffer_is_refused():
    class Averaging(Counting):
        def forward(self, x):
            self.calls = self.calls * 0.9 + x.mean()
            return x * self.weight

    model = nn.Sequential(Averaging(), nn.Linear(D, 2))
    fl.freeze(model, through="0")
    with pytest.raises(fl.NotCacheable, match="the buffer '0.calls' is replaced in forward"):
        fl.split(model, x(4))
