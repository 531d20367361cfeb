"""A softmax before a cross-entropy, which contains one: confident wrong predictions get almost no gradient."""

from setting import batches, loss_fn, network, nn, torch

import frostline as fl

model = nn.Sequential(network(), nn.Softmax(dim=1))
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: the loss gets logits.
model = network()
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
