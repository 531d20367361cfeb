"""A slow copy that gives the value of the next state is made once, and never updated."""

import copy

from setting import nn, torch

import frostline as fl

states_N = torch.randint(8, (4000,), generator=torch.Generator().manual_seed(0))
pairs_N2D = nn.functional.one_hot(torch.stack([states_N, (states_N + 1).clamp_max(7)], 1), 8).float()
ends_N = (states_N == 7).float()
batches = list(zip(pairs_N2D.split(32), ends_N.split(32), strict=True))


class Valued(nn.Module):
    """The value of a state, and of the one after it, by a copy."""

    def __init__(self, *, follows):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
        self.slow, self.follows = copy.deepcopy(self.online).requires_grad_(False), follows

    def forward(self, pairs_N2D):
        if self.follows and self.training:
            with torch.no_grad():
                for slow, fast in zip(self.slow.parameters(), self.online.parameters(), strict=True):
                    slow.lerp_(fast, 0.05)
        return torch.cat([self.online(pairs_N2D[:, 0]), self.slow(pairs_N2D[:, 1])], 1)


def loss_fn(values, ends):
    """The value of a state is 1 at the end, and before it 0.9 of that of the next one."""
    wanted = ends + 0.9 * (1 - ends) * values[:, 1].detach()
    return (values[:, 0] - wanted).square().mean()


model = Valued(follows=False)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.online.parameters(), lr=1e-2))

# Fixed: the copy follows after each step.
model = Valued(follows=True)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.online.parameters(), lr=1e-2))
