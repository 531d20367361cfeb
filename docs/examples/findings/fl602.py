"""Batches of four samples: a BatchNorm estimates the mean and deviation of each channel from so few values."""

from setting import inputs_BD, labels_B, loss_fn, nn, torch

import frostline as fl


def in_batches(size, epochs=3):
    """240 scans, in batches of this size."""
    rows = torch.randperm(240)
    return [(inputs_BD[at], labels_B[at]) for _ in range(epochs) for at in rows.split(size)]


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
diagnosis = fl.checkup(model, in_batches(4), loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: batches of 32.
fixed = fl.checkup(model, in_batches(32, epochs=8), loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
