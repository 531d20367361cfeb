"""A warm-up that begins at a learning rate of 0, and goes on once per epoch: the first epoch changes nothing."""

from setting import batches, loss_fn, network, torch

import frostline as fl

model = network()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 5))
diagnosis = fl.checkup(model, batches, loss_fn, optimizer)

# Fixed: the first epoch has a fifth of the rate.
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, (epoch + 1) / 5))
fixed = fl.checkup(model, batches, loss_fn, optimizer)
