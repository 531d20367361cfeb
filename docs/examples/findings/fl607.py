"""Layers that were trained on pixels from 0 to 4 are frozen, and get pixels from 0 to 0.25: all images look alike."""

from setting import batches, inputs_BD, labels_B, loss_fn, nn, torch

import frostline as fl

torch.manual_seed(0)
backbone = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ELU(), nn.Linear(32, 32), nn.ELU())
whole = nn.Sequential(backbone, nn.Linear(32, 10))
optimizer = torch.optim.Adam(whole.parameters(), lr=1e-2)
for rows in torch.arange(1500).split(50):  # what somebody else has trained
    optimizer.zero_grad()
    loss_fn(whole(4 * inputs_BD[rows]), labels_B[rows]).backward()
    optimizer.step()
fl.freeze(backbone)

model = nn.Sequential(backbone, nn.Linear(32, 10))
optimizer = torch.optim.Adam(model[1].parameters(), lr=5e-3)
diagnosis = fl.checkup(model, [(0.25 * inputs, target) for inputs, target in batches], loss_fn, optimizer)

# Fixed: the unit in which these layers were trained.
fixed = fl.checkup(model, [(4 * inputs, target) for inputs, target in batches], loss_fn, optimizer)
