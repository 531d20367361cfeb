"""Dropout stands behind the output layer: half of the answers are zero when the loss sees them."""

from setting import batches, loss_fn, nn, torch

import frostline as fl


def with_dropout(*, is_last):
    """One hidden layer; dropout behind it, or behind the output layer."""
    torch.manual_seed(0)
    dropout = nn.Dropout(0.5)
    if is_last:
        return nn.Sequential(nn.Linear(64, 32), nn.ELU(), nn.Linear(32, 10), dropout)
    return nn.Sequential(nn.Linear(64, 32), nn.ELU(), dropout, nn.Linear(32, 10))


model = with_dropout(is_last=True)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: the output layer comes last.
model = with_dropout(is_last=False)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
