"""Layers: which axis of their weights stands for which axis of a value."""

import torch
from torch import nn
from torch.nn import functional as F

from frostline.porting.graphs.layer_rules import rule_of
from frostline.porting.units.unit import target_units
from helpers_porting import flow


class Net(nn.Module):
    def __init__(self, function, **layers):
        super().__init__()
        self._function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self._function(self, x)


def flats(module, *shape, name, dtype=torch.float32):
    seen = flow(module, target_units(module), torch.zeros(shape, dtype=dtype))
    return {flat.side: [[(part.size, part.role) for part in piece] for piece in flat.pieces]
            for flat in seen.flattened.get(name, ())}  # fmt: skip


def test_a_recurrent_layer_has_inputs_in_its_first_layer_only():
    module = Net(lambda net, x: net.r(net.a(x).permute(0, 3, 1, 2).flatten(2))[0], a=nn.Conv2d(3, 4, 1),
                 r=nn.GRU(20, 8, num_layers=2, bidirectional=True, batch_first=True))  # fmt: skip
    shown = {"inputs": [[(4, "channels"), (5, "place")]]}
    assert flats(module, 2, 3, 5, 6, name="r:l0_reverse") == shown
    assert flats(module, 2, 3, 5, 6, name="r:l1") == {}
    cell = Net(lambda net, x: net.r(net.a(x).flatten(1)), a=nn.Conv2d(3, 4, 1), r=nn.LSTMCell(120, 8))
    assert "inputs" in flats(cell, 2, 3, 5, 6, name="r")


def test_an_embedding_has_places_and_channels():
    module = Net(lambda net, x: net.d((net.t(x) + net.p(torch.arange(7))).flatten(1)), t=nn.Embedding(9, 4),
                 p=nn.Embedding(7, 4), d=nn.Linear(28, 2))  # fmt: skip
    assert flats(module, 2, 7, name="d", dtype=torch.long) == {"inputs": [[(7, "place"), (4, "channels")]]}


def test_a_norm_keeps_axes_and_has_features_along_one():
    module = Net(lambda net, x: net.n(net.a(x).flatten(1)), a=nn.Conv2d(3, 4, 1), n=nn.BatchNorm1d(24))
    assert flats(module, 2, 3, 3, 2, name="n") == {"features": [[(4, "channels"), (3, "place"), (2, "place")]]}
    grouped = Net(lambda net, x: net.n(net.a(x).flatten(1)), a=nn.Conv2d(3, 4, 1), n=nn.GroupNorm(2, 24))
    assert "other" in flats(grouped, 2, 3, 3, 2, name="n")
    one = Net(lambda net, x: net.n(net.a(x).flatten(1)), a=nn.Conv2d(3, 4, 1), n=nn.PReLU())
    assert flats(one, 2, 3, 3, 2, name="n") == {}


def test_places_that_a_linear_layer_mixes_are_places():
    module = Net(lambda net, x: net.d(net.m(net.t(x).mT).flatten(1)), t=nn.Embedding(9, 4), m=nn.Linear(7, 5),
                 d=nn.Linear(20, 2))  # fmt: skip
    assert flats(module, 2, 7, name="d", dtype=torch.long) == {"inputs": [[(4, "channels"), (5, "place")]]}


def test_attention_gives_channels_last():
    module = Net(lambda net, x: net.d(net.m(*[net.t(x)] * 3)[0].flatten(1)), t=nn.Embedding(9, 4),
                 m=nn.MultiheadAttention(4, 2, batch_first=True), d=nn.Linear(28, 2))  # fmt: skip
    (piece,) = flats(module, 2, 7, name="d", dtype=torch.long)["inputs"]
    assert piece[-1] == (4, "channels")


def test_outputs_that_become_maps_are_channels_and_places_when_a_convolution_takes_them():
    module = Net(lambda net, x: net.a(F.interpolate(net.d(x).view(-1, 4, 3, 3), scale_factor=2) + 1),
                 d=nn.Linear(5, 36), a=nn.Conv2d(4, 2, 1))  # fmt: skip
    assert flats(module, 2, 5, name="d") == {"outputs": [[(4, "channels"), (3, "place"), (3, "place")]]}
    heads = Net(lambda net, x: net.d(x).view(-1, 4, 3, 3).transpose(1, 2).flatten(1), d=nn.Linear(5, 36))
    assert flats(heads, 2, 5, name="d") == {}


def test_only_layers_have_rules_here():
    assert rule_of("conv_transpose2d") is not None
    assert rule_of("relu") is None


def test_what_is_mixed_is_again_what_it_was():
    module = Net(lambda net, x: net.d(net.m(net.t(x).roll(1, 1).mT).flatten(1)), t=nn.Embedding(9, 4),
                 m=nn.Linear(7, 5), d=nn.Linear(20, 2))  # fmt: skip
    assert flats(module, 2, 7, name="d", dtype=torch.long) == {"inputs": [[(4, "unknown"), (5, "unknown")]]}


def test_a_norm_of_maps_that_no_network_with_channels_last_has():
    module = Net(lambda net, x: net.n(net.t(x).flatten(1).view(-1, 2, 4, 4)).mean((2, 3)), t=nn.Embedding(9, 4),
                 n=nn.BatchNorm2d(2))  # fmt: skip
    assert "broken" in str(flats(module, 2, 8, name="n", dtype=torch.long))


def test_sides_of_a_map_that_were_turned_before_a_convolution_of_rows():
    module = Net(lambda net, x: net.c(net.d(x).view(-1, 3, 2, 2).permute(0, 2, 3, 1).flatten(2).mT),
                 d=nn.Linear(5, 12), c=nn.Conv1d(6, 4, 1))  # fmt: skip
    (piece,) = flats(module, 2, 5, name="d")["outputs"]
    assert piece == [(3, "unknown"), (2, "place"), (2, "unknown")]
