import torch
from torch import nn

from helpers_porting import numbers, port_into


def test_arrays_lie_as_in_pytorch():
    conv = {"weights": numbers(2, 3, 1, 1), "biases": numbers(2)}
    assert torch.equal(port_into(nn.Conv2d(3, 2, 1), conv, "darknet").weight, conv["weights"])
    norm = {
        name: numbers(2, seed=at) for at, name in enumerate(("biases", "scales", "rolling_mean", "rolling_variance"))
    }
    made = port_into(nn.BatchNorm2d(2), norm, "darknet")
    for own, name in (("bias", "biases"), ("weight", "scales"), ("running_mean", "rolling_mean")):
        assert torch.equal(getattr(made, own), norm[name])
    assert torch.equal(made.running_var, norm["rolling_variance"])


def test_what_is_no_such_layer_is_none():
    assert port_into(nn.Linear(2, 2), {"weights": numbers(2, 2)}, "darknet") is None
    assert port_into(nn.BatchNorm2d(2), {"biases": numbers(2)}, "darknet") is None
