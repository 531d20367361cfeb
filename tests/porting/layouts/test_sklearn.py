import torch
from torch import nn

from helpers_porting import numbers, port_into


def test_matrices_are_transposed():
    own = port_into(nn.Linear(3, 3), {"coefs": numbers(3, 3), "intercepts": numbers(3)}, "sklearn")
    assert torch.equal(own.weight, numbers(3, 3).T)
    assert port_into(nn.Embedding(3, 3), {"coefs": numbers(3, 3)}, "sklearn") is None
