"""There is no activation between the layers: whether exactly one of two pixels is bright is no linear question."""

from setting import inputs_BD, loss_fn, network, nn, torch

import frostline as fl

bright = inputs_BD[:, [20, 43]] > inputs_BD[:, [20, 43]].median(0).values
is_one = (bright[:, 0] != bright[:, 1]).long()
asked = [(inputs_BD[rows], is_one[rows]) for _ in range(8) for rows in torch.randperm(1280).split(32)]
model = network(activation=nn.Identity)
diagnosis = fl.checkup(model, asked, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: a nonlinear function follows each layer.
model = network()
fixed = fl.checkup(model, asked, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))
