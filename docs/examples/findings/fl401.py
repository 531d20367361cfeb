"""A learning rate of 1 for Adam: each step moves every weight by about 1."""

from setting import network, torch, watch

model = network()
diagnosis = watch(model, torch.optim.Adam(model.parameters(), lr=1.0))

# Fixed: a thousandth of it.
model = network()
fixed = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3))
