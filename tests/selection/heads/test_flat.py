"""One product for all linear heads, against each alone."""

import copy

import pytest
import torch
from torch import nn

from frostline.selection.heads.flat import FlatHeads
from frostline.selection.heads.looped import LoopedHeads
from frostline.selection.variants import LinearAfterDropout
from helpers_sweep import C, H, batch, settings, ways

GIVEN = [{"lr": 0.1, "optimizer": "sgd"}, {"lr": 0.01}, {"lr": 0.01, "weight_decay": 1.0}, {"optimizer": "adam"}]


def head(bias=True, dropout=0.0):
    torch.manual_seed(0)
    layer = nn.Linear(H, C, bias=bias)
    return nn.Sequential(nn.Identity(), LinearAfterDropout(layer, dropout) if dropout else layer)


def both(loss="cross_entropy", given=GIVEN, **options):
    own = settings(given)
    flat = FlatHeads([head(**options) for _ in own], "1", own, ways(loss), is_noisy="dropout" in options)
    return flat, LoopedHeads([head(**options) for _ in own], own, ways(loss))


def assert_same(joined, alone):
    for at in range(len(joined.settings)):
        state = alone.state(at)
        assert joined.state(at).keys() == state.keys()
        for name, tensor in joined.state(at).items():
            torch.testing.assert_close(tensor, state[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"dropout": 0.4}])
def test_the_heads_are_those_of_the_loop(options):
    flat, looped = both(**options)
    for at in range(6):
        torch.testing.assert_close(flat.step(*batch(16 + at)), looped.step(*batch(16 + at)), rtol=1e-5, atol=1e-6)
        if at == 3:
            flat.keep([0, 1, 3])
            looped.keep([0, 1, 3])
    assert_same(flat, looped)
    (losses, outputs), (others, wanted) = flat.evaluate(*batch()), looped.evaluate(*batch())
    torch.testing.assert_close(losses, others, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.stack(outputs), torch.stack(wanted), rtol=1e-5, atol=1e-5)


def test_one_head_that_diverges_leaves_the_others():
    flat, looped = both(given=[{"lr": 3e38, "optimizer": "sgd"}, {"lr": 0.01}])
    for _ in range(5):
        seen, wanted = flat.step(*batch()), looped.step(*batch())
    assert not bool(torch.isfinite(seen[0]))
    torch.testing.assert_close(seen[1], wanted[1], rtol=1e-5, atol=1e-6)


def test_the_layer_may_be_the_head_itself():
    own = settings([{}, {"lr": 0.1}])
    layers = [nn.Linear(H, C) for _ in own]
    wanted = copy.deepcopy(layers[1].weight)
    flat = FlatHeads(layers, "", own, ways(), is_noisy=False)
    assert torch.equal(flat.state(1)["weight"], wanted)
    assert flat.step(*batch()).shape == (2,)
