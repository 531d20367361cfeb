"""Functional dropout without `training=`: it is on in evaluation mode as well, and predictions are random."""

from setting import batches, loss_fn, nn, torch

import frostline as fl


class Dropped(nn.Module):
    """Dropout by the function."""

    def forward(self, x_BD):
        return nn.functional.dropout(x_BD, 0.2)


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), Dropped(), nn.Linear(32, 10))
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: the layer, which is off in evaluation mode; in a function of your own, `training=self.training`.
model[2] = nn.Dropout(0.2)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
