"""The output layer was replaced after the optimizer was made: the optimizer holds the old one."""

from setting import network, torch, watch

import frostline as fl

model = network()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
fl.replace_head(model, num_classes=10)
diagnosis = watch(model, optimizer)

# Fixed: the optimizer is made once the model is complete.
fixed = watch(model, torch.optim.Adam(model.parameters(), lr=1e-3))
