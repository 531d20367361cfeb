import torch
from torch import nn

from helpers_porting import numbers, port_into


def test_scales_and_statistics_have_names_of_their_own():
    leaves = {"gamma": numbers(2), "beta": numbers(2), "moving_mean": numbers(2), "moving_var": numbers(2, seed=3)}
    assert torch.equal(port_into(nn.BatchNorm2d(2), leaves, "mxnet").running_var, numbers(2, seed=3))


def test_dense_layers_and_slopes_lie_as_in_pytorch():
    assert torch.equal(port_into(nn.Linear(3, 3, bias=False), {"weight": numbers(3, 3)}, "mxnet").weight, numbers(3, 3))
    assert torch.equal(port_into(nn.PReLU(2), {"alpha": numbers(2)}, "mxnet").weight, numbers(2))
