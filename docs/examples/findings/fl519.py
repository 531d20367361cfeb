"""A second term is added as a number: the loss is larger by it, and nothing learns from it."""

from setting import batches, loss_fn, network, torch

import frostline as fl


def spread(output):
    """The mean square of the outputs, which is to stay small."""
    return output.square().mean()


def with_number(output, target):
    """The term has lost its gradient."""
    return loss_fn(output, target) + 0.1 * spread(output).item()


def with_tensor(output, target):
    """The term itself."""
    return loss_fn(output, target) + 0.1 * spread(output)


model = network()
diagnosis = fl.checkup(model, batches, with_number, torch.optim.Adam(model.parameters(), lr=3e-3))

# Fixed: the tensor is added.
model = network()
fixed = fl.checkup(model, batches, with_tensor, torch.optim.Adam(model.parameters(), lr=3e-3))
