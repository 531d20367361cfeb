"""Labels that were shuffled without their inputs: nothing can be learnt that holds for other samples."""

from setting import batches, loss_fn, network, torch

import frostline as fl

torch.manual_seed(0)
shuffled = [(inputs, target[torch.randperm(len(target))]) for inputs, target in batches]
model = network()
diagnosis = fl.checkup(model, shuffled, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: each input with its own label.
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
