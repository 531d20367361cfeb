import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, x


def test_unbatched_inputs_are_shared():
    model = Net(lambda m, a, table: m.high(m.low(a)) @ table)
    split = check(model, (x(4), torch.randn(D, 3)))
    assert [(tensor.name, tensor.shared) for tensor in split.frontier] == [("low", False), ("input.1", True)]


def test_low_rank_adapters_above_frozen_layers():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(4))
            self.down = nn.ModuleList(nn.Linear(D, 2, bias=False) for _ in range(2))
            self.up = nn.ModuleList(nn.Linear(2, D, bias=False) for _ in range(2))

        def forward(self, x):
            for at, layer in enumerate(self.layers):
                y = layer(x)
                x = y + self.up[at - 2](self.down[at - 2](x)) if at >= 2 else y
            return x

    model = Adapted()
    fl.freeze(model, modules=[model.layers])
    split = check(model, x(4))
    # the frozen product of layer 2 is stored too: nothing that depends on frozen values alone runs in the head
    assert [tensor.name for tensor in split.frontier] == ["layers.1", "layers.2"]


OTHER_IN_TRAINING = {
    "another shape": lambda m, low: low.repeat(1, 2 if m.training else 1),
    "another dtype": lambda m, low: low.to(torch.float64 if m.training else torch.float16),
    "another axis": lambda m, low: low.unsqueeze(1 if m.training else 2),
}


@pytest.mark.parametrize("name", OTHER_IN_TRAINING)
def test_what_one_call_makes_in_another_form_in_training_is_stored_for_both_modes(name):
    model = Net(lambda m, batch: OTHER_IN_TRAINING[name](m, m.low(batch)) * m.high.weight.sum())
    split = check(model, x(4))
    assert len(split.frontier) == 2
    batch = x(5)
    for training in (True, False):
        model.train(training)
        split.head.train(training)
        found, expected = split.head(*split.extract(batch)), model(batch)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
