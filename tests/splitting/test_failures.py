import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, unanswered, x


def _written_after_use(m, x):
    h = m.low(x)
    y = m.high(h)
    h += y  # autograd still needs h
    return h


def test_a_model_that_fails_by_itself_is_told_so_with_its_own_line():
    with pytest.raises(fl.SplitError, match="itself fails on the example") as error:
        fl.split(Net(_written_after_use), x(4))
    assert "modified by an inplace operation" in error.value.received
    assert isinstance(error.value.__cause__, RuntimeError)

    def forward(m, x):
        return m.high(m.low(x))[:, [0, 99]]

    with pytest.raises(fl.SplitError) as error:
        fl.split(Net(forward), x(4))
    assert "return m.high(m.low(x))[:, [0, 99]]" in error.value.where


def test_a_transform_of_functions_in_a_mixed_module_is_refused_with_the_way_out():
    model = Net(lambda m, x: torch.vmap(lambda row: m.high.weight @ row)(unanswered(m, x)))
    with pytest.raises(fl.SplitError, match="cannot be recorded") as error:
        fl.split(model, x(4))
    assert "a module of its own" in error.value.do

    class Mapped(nn.Linear):
        def forward(self, rows):
            return torch.vmap(lambda row: self.weight @ row)(rows)

    split = fl.split(Net(lambda m, x: m.high(m.low(x)), high=Mapped(D, D)), x(4))
    assert split.explain().verification.is_exact
