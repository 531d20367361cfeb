"""Biases far below zero in 22 of 32 units: their ReLUs give zero for every sample, and get no gradient."""

from setting import network, nn, torch, watch

import frostline as fl

model = network(nn.ReLU)
nn.init.constant_(model[2].bias[:22], -2.0)
diagnosis = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3))

# Fixed: Leaky ReLU lets a gradient through on both sides of zero.
fl.remedies.swap_activations(model, "relu", "leaky_relu")
fixed = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3))
