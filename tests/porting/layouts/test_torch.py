import torch
from torch import nn

from helpers_porting import numbers, port_into


def test_names_of_the_first_bert():
    own = port_into(nn.LayerNorm(3), {"gamma": numbers(3), "beta": numbers(3, seed=1)}, "torch")
    assert torch.equal(own.weight, numbers(3))


def test_a_linear_layer_is_never_transposed():
    square = numbers(4, 4)
    assert torch.equal(port_into(nn.Linear(4, 4, bias=False), {"weight": square}, "torch").weight, square)
    assert port_into(nn.Linear(4, 3, bias=False), {"weight": numbers(4, 3)}, "torch") is None


def test_a_convolution_over_one_place_and_a_linear_layer_are_the_same():
    kernel = numbers(4, 3, 1, 1)
    assert torch.equal(port_into(nn.Linear(3, 4, bias=False), {"weight": kernel}, "torch").weight, kernel[:, :, 0, 0])
    flat = numbers(4, 3)
    assert port_into(nn.Conv2d(3, 4, 1, bias=False), {"weight": flat}, "torch").weight.shape == (4, 3, 1, 1)
    assert port_into(nn.Conv2d(1, 4, 3, bias=False), {"weight": numbers(4, 9)}, "torch") is None


def test_what_a_layer_does_not_have_is_not_lost():
    assert port_into(nn.Linear(3, 2), {"weight": numbers(2, 3), "scale": numbers(2)}, "torch") is None
    assert port_into(nn.Linear(3, 2), {"weight": numbers(2, 3)}, "torch") is None  # a bias of PyTorch is never left out
