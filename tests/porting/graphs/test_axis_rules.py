"""Each operation in a module: what it leaves of channels and places is seen on the layer behind it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.porting.graphs.axis_rules import rule_of
from frostline.porting.units.unit import target_units
from helpers_porting import flow

C, P, U = "channels", "place", "unknown"


class Net(nn.Module):
    def __init__(self, function, count):
        super().__init__()
        self.conv, self.dense, self._function = nn.Conv2d(3, 8, 1), nn.Linear(count, 2), function

    def forward(self, x):
        return self.dense(self._function(self.conv(x)).flatten(1))


def pieces(function):
    """The parts that the dense layer's inputs are made of."""
    with torch.no_grad():
        count = function(torch.rand(2, 8, 4, 6)).flatten(1).shape[1]
    model = Net(function, count)
    seen = flow(model, target_units(model), torch.rand(2, 3, 4, 6))
    flats = [flat for flat in seen.flattened.get("dense", ()) if flat.side == "inputs"]
    return [[(part.size, part.role) for part in piece] for flat in flats for piece in flat.pieces]


MAP = [(8, C), (4, P), (6, P)]
LAST = [(4, P), (6, P), (8, C)]


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x, MAP),
        (lambda x: x.relu() * 2 + 1, MAP),
        (lambda x: x + x.mean((2, 3), keepdim=True).sigmoid(), MAP),
        (lambda x: torch.where(x > 0, x, x * 0.1), MAP),
        (lambda x: x.permute(0, 2, 3, 1), LAST),
        (lambda x: x.transpose(1, 2).transpose(2, 3), LAST),
        (lambda x: x.flatten(2).mT.unflatten(1, (4, 6)), LAST),
        (lambda x: torch.einsum("bchw->bhwc", x), LAST),
        (lambda x: torch.einsum("bchw, bcij -> bhjc", x, x.relu()), LAST),
        (lambda x: torch.einsum("bchw->bch", x), [(8, U), (4, U)]),
        (lambda x: F.max_pool2d(x, 2), [(8, C), (2, P), (3, P)]),
        (lambda x: F.adaptive_avg_pool2d(x, (1, 3)), [(8, C), (3, P)]),
        (lambda x: F.pad(x, (0, 0, 1, 1)), [(8, C), (6, P), (6, P)]),
        (lambda x: x.amax(3), [(8, C), (4, P)]),
        (lambda x: x.max(2).values, [(8, C), (6, P)]),
        (lambda x: F.glu(x, 1), [(4, C), (4, P), (6, P)]),
        (lambda x: x.chunk(2, 2)[1], [(8, C), (2, P), (6, P)]),
        (lambda x: x[:, 2:5, ..., ::2], [(3, C), (4, P), (3, P)]),
        (lambda x: x[:, None, :, 0], [(8, C), (6, P)]),
        (lambda x: x.unbind(3)[2], [(8, C), (4, P)]),
        (lambda x: torch.cat([x, -x], 1), [(16, C), (4, P), (6, P)]),
        (lambda x: torch.cat([x, -x], 3), [(8, C), (4, P), (12, P)]),
        (lambda x: torch.stack([x, x], 1), [(2, U), *MAP]),
        (lambda x: F.pixel_unshuffle(x, 2), [(8, C), (2, P), (2, P), (2, P), (3, P)]),
        (lambda x: F.pixel_shuffle(x, 2), [(2, C), (8, P), (12, P)]),
        (lambda x: x.flatten(2).transpose(1, 2) @ x.flatten(2), None),
        (lambda x: x.mean(3, keepdim=True).expand(-1, -1, -1, 6), [(8, C), (4, P), (6, U)]),
        (lambda x: x.roll(1, 2), [(8, U), (4, U), (6, U)]),
        (lambda x: x.permute(0, 3, 2, 1).reshape(2, 6, 32), [(6, P), (4, P), (8, C)]),
        (lambda x: x.reshape(2, 2, 4, 24).transpose(1, 2), [(4, U), (2, U), (4, P), (6, P)]),
    ],
)  # fmt: skip
def test_what_an_operation_leaves(function, found):
    shown = pieces(function)
    if found is None:
        assert len(shown[0]) == 4
    else:
        assert shown == [found]


def test_what_cannot_be_followed_is_broken():
    for function in (lambda x: x.flatten(1)[:, ::2], lambda x: x.flatten(1).unflatten(1, (32, -1))[:, 1:],
                     lambda x: torch.cat([x.flatten(1), torch.ones(2, 3)], 1)):  # fmt: skip
        assert "broken" in str(pieces(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.permute(0, 2, 3, 1).mean((2, 3)),  # one side of the map is left where channels are expected
        lambda x: F.glu(x.permute(0, 2, 3, 1).reshape(-1, 2, 12, 8), 1),
    ],
)
def test_places_that_stand_where_channels_are_expected_are_lost(function):
    assert "broken" in str(pieces(function))


def test_pieces_that_are_added_stay_pieces():
    both = [MAP, [(8, C)]]
    assert pieces(lambda x: torch.cat([x.flatten(1), x.mean((2, 3))], 1)) == both
    assert pieces(lambda x: torch.cat([x.flatten(1), x.mean((2, 3))], 1) + torch.cat(
        [x.relu().flatten(1), x.amax((2, 3))], 1)) == both  # fmt: skip


def test_operations_without_a_rule():
    assert rule_of("roll") is None
    assert rule_of("adaptive_max_pool1d") is not None


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.softmax(1), lambda x: F.normalize(x), lambda x: F.log_softmax(x, 2),
        lambda x: x[:, 0], lambda x: x.unbind(1)[1], lambda x: torch.cat([x[:, 0], x.select(1, 1)], 1),
    ],
)  # fmt: skip
def test_features_that_are_cut_and_treated_along_one_axis_may_be_a_map(function):
    module = Net(lambda x: x, 12)
    module.forward = lambda x: module.dense(function(module.conv(x).mean((2, 3)).view(-1, 2, 2, 2)).flatten(1))
    module.dense = nn.Linear(function(torch.ones(1, 2, 2, 2)).numel(), 2)
    seen = flow(module, target_units(module), torch.rand(2, 3, 4, 6))
    assert [part.role for part in seen.flattened["conv"][0].pieces[0]][:2] == [U, U]
    assert "broken" not in str(seen.flattened)
    module.dense = nn.Linear(8, 2)
    module.forward = lambda x: module.dense(module.conv(x).mean((2, 3)).view(-1, 2, 2, 2).softmax(-1).flatten(1))
    assert flow(module, target_units(module), torch.rand(2, 3, 4, 6)).flattened == {}
