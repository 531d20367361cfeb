import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.parts.replaced_layers import Replaced, Watched, folded_norms
from helpers_passes import Block, network

NOTHING = Watched(frozenset(), frozenset())


def folded(model, watched=NOTHING, x=None):
    return folded_norms(model, torch.randn(4, 3, 16, 16) if x is None else x, watched)


def applied(model, found, x):
    from contextlib import ExitStack

    with ExitStack() as stack:
        for own in found:
            stack.enter_context(own.applied())
        return model(x)


def test_every_frozen_norm_behind_a_convolution_is_folded_and_put_back_to_the_bit():
    model = network()
    fl.freeze(model)
    x = torch.randn(4, 3, 16, 16)
    before = {name: own.clone() for name, own in model.state_dict().items()}
    expected = model(x)
    found, note = folded(model)
    assert note == "3 of 3 frozen BatchNorms are folded"
    torch.testing.assert_close(applied(model, found, x), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model(x), expected)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())


def test_an_error_inside_of_a_pass_puts_the_layer_back():
    layer = nn.Linear(2, 2)
    own = dict(layer.named_parameters())
    replaced = Replaced(layer, lambda x: x * 2, {"weight": nn.Parameter(torch.zeros(2, 2)), "bias": None})
    with pytest.raises(KeyError), replaced.applied():
        assert torch.equal(layer(torch.ones(2)), torch.full((2,), 2.0))
        raise KeyError
    assert "forward" not in vars(layer)
    assert all(layer._parameters[name] is parameter for name, parameter in own.items())


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        h = self.conv(x)
        return self.norm(h) + h


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.other(self.norm(self.conv(x)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(self.norm(self.conv(x))))


class Doubled(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2


@pytest.mark.parametrize("model", [
    Shared(), Tied(), Twice(), nn.Sequential(Doubled(3, 3, 1), nn.BatchNorm2d(3)),
    nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
    nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
], ids=["shared", "tied", "twice", "doubled", "behind an activation", "without statistics"])  # fmt: skip
def test_what_is_used_elsewhere_stays(model):
    fl.freeze(model.eval())
    assert folded(model)[0] == []


def test_what_trains_has_hooks_or_is_watched_stays():
    model = network()
    fl.freeze(model, through="3")
    assert folded(model)[1] == "2 of 2 frozen BatchNorms are folded"
    assert folded(model, Watched(frozenset(), frozenset({"0"})))[1] == "1 of 2 frozen BatchNorms are folded"
    assert folded(model, Watched(frozenset({"3.bn"}), frozenset()))[1] == "1 of 2 frozen BatchNorms are folded"
    assert folded(model, Watched(frozenset(), frozenset({"3.bn"})))[1] == "2 of 2 frozen BatchNorms are folded"
    model[3].conv.register_forward_hook(lambda *_: None)
    assert folded(model)[1] == "1 of 2 frozen BatchNorms are folded"


def test_the_running_variance_of_a_block_is_not_moved():
    block = Block(3)
    fl.freeze(block.eval())
    found, _ = folded(block)
    assert [own.forward is None for own in found] == [True, False]
