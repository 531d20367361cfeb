import torch
from torch import nn

from helpers_porting import numbers, port_into


def test_weights_are_transposed_square_ones_too():
    leaves = {"coefs": numbers(3, 3), "intercepts": numbers(3)}
    made = port_into(nn.Linear(3, 3), leaves, "sklearn")
    assert torch.equal(made.weight, numbers(3, 3).T)
    assert torch.equal(made.bias, numbers(3))
    assert port_into(nn.Conv1d(3, 3, 1), leaves, "sklearn") is None
