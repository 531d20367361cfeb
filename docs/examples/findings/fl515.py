"""Stored images are standardised in place whenever they are read: after three epochs they are 40 times as large."""

from setting import batches, loss_fn, network, torch

import frostline as fl

stored, read = batches[:20], []
for _ in range(4):
    stored = [((inputs - 0.3) / 0.3, target) for inputs, target in stored]
    read += stored
model = network()
diagnosis = fl.checkup(model, read, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: a copy is standardised.
model = network()
copies = [((inputs - 0.3) / 0.3, target) for _ in range(4) for inputs, target in batches[:20]]
fixed = fl.checkup(model, copies, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))
