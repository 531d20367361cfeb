"""Heads mapped over their weights, against each alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from frostline.selection.heads.looped import LoopedHeads
from frostline.selection.heads.stacked import StackedHeads
from helpers_sweep import C, H, batch, settings, ways

GIVEN = [{"lr": 0.1, "optimizer": "sgd"}, {"lr": 0.01}, {"lr": 0.01, "weight_decay": 1.0}, {"optimizer": "rmsprop"}]


class Tied(nn.Module):
    """The same layer twice, and a frozen part."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(H, H)
        self.second, self.out = self.first, nn.Linear(H, C)
        self.scale = nn.Parameter(torch.full((H,), 2.0), requires_grad=False)

    def forward(self, x):
        return self.out(self.second(F.relu(self.first(x))) * self.scale)


def mlp(dropout=0.0):
    return nn.Sequential(nn.Linear(H, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, C))


@pytest.mark.parametrize("make", [mlp, Tied, lambda: mlp(0.5)], ids=["mlp", "tied", "noisy"])
@pytest.mark.parametrize("loss", ["cross_entropy", F.cross_entropy], ids=["name", "callable"])
def test_the_heads_are_those_of_the_loop(make, loss):
    own = settings(GIVEN)

    def heads():
        found = []
        for one in own:
            torch.manual_seed(one.number)
            found.append(make())
        return found

    stacked, looped = StackedHeads(heads(), own, ways(loss), is_noisy=True), LoopedHeads(heads(), own, ways(loss))
    for at in range(6):
        torch.testing.assert_close(stacked.step(*batch(16 + at)), looped.step(*batch(16 + at)), rtol=1e-5, atol=1e-6)
        if at == 3:
            stacked.keep([0, 1, 3])
            looped.keep([0, 1, 3])
    for at in range(3):
        wanted = looped.state(at)
        for name, tensor in stacked.state(at).items():
            torch.testing.assert_close(tensor, wanted[name], rtol=1e-4, atol=1e-5)
    (losses, outputs), (others, expected) = stacked.evaluate(*batch()), looped.evaluate(*batch())
    torch.testing.assert_close(losses, others, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.stack(outputs), torch.stack(expected), rtol=1e-4, atol=1e-5)
