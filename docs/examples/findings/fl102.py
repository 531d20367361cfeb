"""Weights that are drawn too large: each layer multiplies the size of its input, the output layer, too (FL302)."""

from setting import network, nn, torch, watch

import frostline as fl

model = network(nn.ReLU, hidden=6)
for layer in model[:-1]:
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.6)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
diagnosis = watch(model, optimizer)

# Fixed: the weights are drawn anew, to fit the ReLUs behind them.
fl.remedies.initialize(model, include_pretrained=True, optimizer=optimizer)
fixed = watch(model, optimizer)
