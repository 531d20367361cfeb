"""Large weights before a tanh: its outputs are -1 or 1, where its slope is almost zero."""

from setting import network, nn, torch, watch

import frostline as fl

model = network(nn.Tanh)
nn.init.normal_(model[0].weight, std=1.8)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
diagnosis = watch(model, optimizer)

# Fixed: the weights of this layer are drawn anew.
fl.remedies.initialize(model, layers="0", optimizer=optimizer)
fixed = watch(model, optimizer)
