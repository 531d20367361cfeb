"""A list that is multiplied: the network has one hidden layer, three times."""

from setting import batches, loss_fn, nn, torch

import frostline as fl

torch.manual_seed(0)
hidden = nn.Sequential(nn.Linear(32, 32), nn.ELU())
model = nn.Sequential(nn.Linear(64, 32), nn.Sequential(*[hidden] * 3), nn.Linear(32, 10))
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: each layer is made on its own.
several = [nn.Sequential(nn.Linear(32, 32), nn.ELU()) for _ in range(3)]
model = nn.Sequential(nn.Linear(64, 32), nn.Sequential(*several), nn.Linear(32, 10))
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
