"""A slice takes the first four pixels of each scan, of which most are always 0."""

from setting import batches, loss_fn, nn, torch

import frostline as fl


class Cut(nn.Module):
    """A network over some of the pixels."""

    def __init__(self, count):
        super().__init__()
        self.count = count
        self.body = nn.Sequential(nn.Linear(count, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, inputs_BD):
        return self.body(inputs_BD[:, : self.count])


torch.manual_seed(0)
model = Cut(4)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: all pixels are used.
model = Cut(64)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
