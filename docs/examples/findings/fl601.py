"""A BatchNorm with a momentum of 0.001: after 60 steps its running statistics are almost those that it started with."""

from setting import batches, loss_fn, nn, torch

import frostline as fl


def normalised(momentum):
    """One hidden layer with BatchNorm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 10))


model = normalised(momentum=0.001)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: the momentum that torch takes by default.
model = normalised(momentum=0.1)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
