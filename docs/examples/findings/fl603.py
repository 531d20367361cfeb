"""A BatchNorm whose parameters are frozen by hand: its running statistics go on following the batches."""

from setting import batches, loss_fn, nn, torch

import frostline as fl

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
model[0].requires_grad_(False)
model[1].requires_grad_(False)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model[3].parameters(), lr=1e-2))

# Fixed: `fl.freeze` also holds statistics still and dropout off.
fl.freeze(model, through="1")
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model[3].parameters(), lr=1e-2))
