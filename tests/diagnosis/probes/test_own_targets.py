import copy

import pytest
import torch
from torch import nn

from frostline.diagnosis.experiments.observer import trainable_weights
from frostline.diagnosis.probes.own_targets import copies_at_first, facts_of_own_targets, still_copy
from helpers_health import FEATURES


class Valued(nn.Module):
    """The value of a state, and of the one after it, by a copy or by the network itself."""

    def __init__(self, *, has_copy=True, follows=False):
        super().__init__()
        torch.manual_seed(0)
        self.online = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 1))
        self.slow = copy.deepcopy(self.online).requires_grad_(False)
        self.has_copy, self.follows = has_copy, follows

    def forward(self, inputs):
        if self.follows and self.training:
            with torch.no_grad():
                for slow, fast in zip(self.slow.parameters(), self.online.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
        after = (self.slow if self.has_copy else self.online)(inputs.flip(0))
        return torch.cat([self.online(inputs), after], 1)


def loss_fn(output, reward):
    return (output[:, 0] - reward - 0.9 * output[:, 1].detach()).square().mean()


def found(model, loss=loss_fn):
    batch = torch.randn(32, FEATURES), torch.rand(32)
    copies, start = copies_at_first(model), trainable_weights(model)
    optimizer = torch.optim.SGD(model.online.parameters(), 0.05)
    for _ in range(5):
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        optimizer.step()
    return facts_of_own_targets(model, copies, start, batch, loss)


def test_a_copy_that_never_follows():
    facts = found(Valued())
    assert (facts.copy, facts.source) == ("slow", "online")
    assert facts.made == ("column 1",)
    assert not facts.is_moving


def test_a_copy_that_follows_moves_no_more_than_it_should():
    facts = found(Valued(follows=True))
    assert facts.copy == ""
    assert not facts.is_moving


def test_targets_that_move_with_the_weights():
    facts = found(Valued(has_copy=False))
    assert facts.is_moving
    assert facts.copy == ""  # which nothing reads


def test_where_all_outputs_learn_there_is_nothing():
    assert found(Valued(has_copy=False), lambda output, reward: (output.sum(1) - reward).square().mean()) is None


def test_layers_that_are_alike_by_chance_are_no_copies():
    model = nn.Sequential(nn.LayerNorm(32), nn.LayerNorm(32).requires_grad_(False), nn.Linear(4, 4))
    assert copies_at_first(model) in ({}, {"1": "0"})
    assert still_copy(model, {}, {}) == ("", "")


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_copy_of_nothing_but_zeros_is_none(scale):
    one = nn.Linear(8, 8)
    with torch.no_grad():
        one.weight.mul_(scale)
        one.bias.mul_(scale)
    model = nn.ModuleDict({"a": one, "b": copy.deepcopy(one).requires_grad_(False)})
    assert copies_at_first(model) == ({"b": "a"} if scale else {})
