"""A model that was left in evaluation mode: its BatchNorm never measures statistics, and normalises nothing."""

from setting import batches, loss_fn, nn, torch

import frostline as fl

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
model.eval()
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: training mode before the training.
model.train()
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
