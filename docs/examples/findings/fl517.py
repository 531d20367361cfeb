"""There is no activation between the layers: whether two values have the same sign is no linear question."""

from setting import loss_fn, nn, torch

import frostline as fl


def layers(activation):
    """Three layers, and a function between two of them."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 2))


torch.manual_seed(0)
values_BD = torch.randn(1280, 4)
is_same_B = (values_BD[:, 0] * values_BD[:, 1] > 0).long()
asked = [(values_BD[rows], is_same_B[rows]) for _ in range(4) for rows in torch.randperm(1280).split(32)]
model = layers(nn.Identity)
diagnosis = fl.checkup(model, asked, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: a nonlinear function follows each layer.
model = layers(nn.ReLU)
fixed = fl.checkup(model, asked, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
