"""A loader begins with the same rows at each restart: four batches come again and again, and are learnt by heart."""

from setting import batches, loss_fn, network, torch

import frostline as fl

model = network()
diagnosis = fl.checkup(model, batches[:4] * 40, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: every batch of the loader is used.
model = network()
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))
