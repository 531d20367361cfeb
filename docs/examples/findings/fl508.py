"""Labels that were divided by 16 along with the pixels: cut to integers, all of them are 0."""

from setting import batches, loss_fn, network, torch

import frostline as fl

divided = [(inputs, (target / 16).long()) for inputs, target in batches]
model = network()
diagnosis = fl.checkup(model, divided, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: the pixels alone are divided.
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
