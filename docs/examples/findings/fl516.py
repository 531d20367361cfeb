"""A model centres its inputs in place: the data set holds other values after each epoch."""

from setting import batches, loss_fn, network, nn, torch

import frostline as fl


class Centred(nn.Module):
    """A network behind a centring of its inputs."""

    def __init__(self, *, in_place):
        super().__init__()
        self.body, self.in_place = network(), in_place

    def forward(self, inputs_BD):
        if self.in_place:
            inputs_BD -= 0.3
            return self.body(inputs_BD)
        return self.body(inputs_BD - 0.3)


def copied():
    """The batches, which a model may change."""
    return [(inputs.clone(), target) for inputs, target in batches]


model = Centred(in_place=True)
diagnosis = fl.checkup(model, copied(), loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: the result is a new tensor.
model = Centred(in_place=False)
fixed = fl.checkup(model, copied(), loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))
