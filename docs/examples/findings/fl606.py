"""Inputs are scaled in training mode only: in evaluation mode the network gets others than it was trained with."""

from setting import batches, loss_fn, network, nn, torch

import frostline as fl


class Scaled(nn.Module):
    """Brings pixels from 0 to 1 to -4 to 4."""

    def __init__(self, *, in_both):
        super().__init__()
        self.body, self.in_both = network(), in_both

    def forward(self, inputs):
        is_scaled = self.training or self.in_both
        return self.body(8 * (inputs - 0.5) if is_scaled else inputs)


model = Scaled(in_both=False)
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))

# Fixed: the same in both modes.
model = Scaled(in_both=True)
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-2))
