import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.probes.output_bounds import facts_of_bounds

INPUTS = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))


class Given(nn.Module):
    """Gives its inputs, after a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


def facts(function, loss_fn, target):
    return facts_of_bounds(Given(function), (INPUTS, target), loss_fn)


def test_an_output_that_is_cut_below_what_the_loss_asks_for_is_named():
    found = facts(lambda x: torch.cat([x[:, :1], x[:, 1:].relu()], 1), F.mse_loss, INPUTS)
    assert (found.name, found.value) == ("column 1", 0.0)
    assert 0.3 < found.share < 0.7
    found = facts(lambda x: (x, x.clamp(max=0)), lambda o, t: F.mse_loss(o[0], t) + F.mse_loss(o[1], t), INPUTS)
    assert (found.name, found.value) == ("1", 0.0)


def test_a_bound_that_the_targets_have_as_well_is_none():
    assert facts(torch.relu, F.mse_loss, INPUTS.relu()) is None
    assert facts(lambda x: x, F.mse_loss, INPUTS + 1) is None
    assert facts(torch.zeros_like, F.mse_loss, INPUTS) is None  # one value for all is another matter
    assert facts(lambda x: x.mean(), lambda o, t: o, INPUTS) is None
