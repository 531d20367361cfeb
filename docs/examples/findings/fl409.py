"""A weight decay a thousand times as large as is usual: all weights shrink to nothing."""

from setting import batches, loss_fn, network, torch

import frostline as fl

model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)
diagnosis = fl.checkup(model, batches, loss_fn, optimizer)

# Fixed: a usual one.
fixed = fl.checkup(
    model, batches, loss_fn, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
)
