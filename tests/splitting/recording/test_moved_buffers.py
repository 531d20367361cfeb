import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, x


class Counting(nn.Linear):
    def __init__(self, is_rebound):
        super().__init__(D, D)
        self.is_rebound = is_rebound
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, batch):
        self.calls = self.calls + 1 if self.is_rebound else self.calls.add_(1)
        return super().forward(batch)


@pytest.mark.parametrize("is_rebound", [True, False])
def test_a_buffer_of_a_trainable_layer_moves_with_the_head(is_rebound):
    model = Net(lambda m, batch: m.high(m.low(batch)), high=Counting(is_rebound))
    split = check(model, x(4), names=["low"])
    split.head.train()
    split.head(*split.extract(x(4)))
    assert model.high.calls == 1


@pytest.mark.parametrize(("is_rebound", "how"), [(True, "is replaced in forward"), (False, "is written during")])
def test_a_buffer_of_a_frozen_layer_must_stand_still(is_rebound, how):
    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.low = Counting(is_rebound).requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match=how):
        fl.split(model, x(4))
