import torch
from torch import nn

from frostline.porting.execution import carry_out
from frostline.porting.plan import make_plan
from helpers_porting import numbers, source_of


def test_a_convolution_with_its_norm_is_two_layers():
    leaves = {"biases": numbers(2), "scales": numbers(2, seed=1), "rolling_mean": numbers(2, seed=2),
              "rolling_variance": numbers(2, seed=3), "weights": numbers(2, 3, 1, 1)}  # fmt: skip
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Conv2d(2, 4, 1))
    units = {"0": leaves, "1": {"biases": numbers(4), "weights": numbers(4, 2, 1, 1)}}
    carry_out(make_plan(source_of("darknet", units), "file", model), model)
    assert torch.equal(model[0].weight, numbers(2, 3, 1, 1))
    assert torch.equal(model[1].running_var, numbers(2, seed=3))
    assert torch.equal(model[2].bias, numbers(4))


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
