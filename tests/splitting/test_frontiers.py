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
