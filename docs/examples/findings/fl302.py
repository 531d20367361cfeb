"""An output layer that is drawn too large: the first predictions are confident, and mostly wrong."""

from setting import network, nn, torch, watch

import frostline as fl

model = network()
nn.init.normal_(model[4].weight, std=15.0)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
diagnosis = watch(model, optimizer)

# Fixed: the weights of this layer are drawn anew.
fl.remedies.initialize(model, layers="4", optimizer=optimizer)
fixed = watch(model, optimizer)
