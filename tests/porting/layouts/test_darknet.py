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
