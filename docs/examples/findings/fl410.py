"""The share of units to keep is passed to nn.Dropout, which takes the share to drop."""

from setting import batches, loss_fn, nn, torch

import frostline as fl


def with_dropout(share):
    """One hidden layer, of which this share is dropped."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ELU(), nn.Dropout(share), nn.Linear(32, 10))


model = with_dropout(0.95)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: a twentieth is dropped.
model = with_dropout(0.05)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
