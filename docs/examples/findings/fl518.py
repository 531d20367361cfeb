"""An activation of one's own has the slope of another one in its backward."""

from setting import batches, loss_fn, nn, torch

import frostline as fl


class Swish(torch.autograd.Function):
    """x * sigmoid(x)."""

    @staticmethod
    def forward(ctx, value):
        ctx.save_for_backward(value)
        return value * value.sigmoid()

    @staticmethod
    def backward(ctx, gradient):
        (value,) = ctx.saved_tensors
        return gradient * value.sigmoid() * (1 - value.sigmoid())  # of the sigmoid alone


model = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 10))
model[1].forward = Swish.apply
diagnosis = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: autograd knows the slope.
model = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 10))
fixed = fl.checkup(model, batches, loss_fn, torch.optim.Adam(model.parameters(), lr=3e-3))
