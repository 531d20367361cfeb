"""A clip far below the norm of the gradients: every step is a thousandth of what it should be."""

from setting import batches, loss_fn, network, nn, torch

import frostline as fl


def clipped(threshold):
    """A checkup with a clip before each step."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)

    def clip(optimizer, *_):
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], threshold)

    optimizer.register_step_pre_hook(clip)
    return fl.checkup(model, batches, loss_fn, optimizer)


diagnosis = clipped(1e-4)

# Fixed: a threshold above the usual norm.
fixed = clipped(5.0)
