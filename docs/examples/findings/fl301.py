"""All weights of the hidden layers start at the same value: units get the same gradient, and stay copies."""

from setting import network, nn, torch, watch

import frostline as fl

model = network()
for layer in (model[0], model[2]):
    nn.init.constant_(layer.weight, 0.05)
    nn.init.zeros_(layer.bias)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
diagnosis = watch(model, optimizer)

# Fixed: random weights.
fl.remedies.initialize(model, layers=["0", "2"], optimizer=optimizer)
fixed = watch(model, optimizer)
