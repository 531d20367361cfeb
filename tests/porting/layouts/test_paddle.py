import torch
from torch import nn

from helpers_porting import numbers, port_into


def test_linear_layers_are_transposed_and_embeddings_are_not():
    assert torch.equal(
        port_into(nn.Linear(3, 3, bias=False), {"weight": numbers(3, 3)}, "paddle").weight, numbers(3, 3).T
    )
    assert torch.equal(port_into(nn.Embedding(3, 3), {"weight": numbers(3, 3)}, "paddle").weight, numbers(3, 3))


def test_statistics_have_names_of_their_own():
    leaves = {"weight": numbers(2), "bias": numbers(2), "_mean": numbers(2, seed=1), "_variance": numbers(2, seed=2)}
    own = port_into(nn.BatchNorm2d(2), leaves, "paddle")
    assert torch.equal(own.running_var, numbers(2, seed=2))
    made = port_into(nn.Conv2d(2, 2, 1), {"weight": numbers(2, 2, 1, 1), "bias": numbers(2)}, "paddle")
    assert torch.equal(made.weight, numbers(2, 2, 1, 1))


def test_projections_of_an_attention_are_linear_layers_and_transposed_each():
    parts = ("query", "key", "value", "output")
    leaves = {f"{part}/weight": numbers(2, 2, seed=at) for at, part in enumerate(parts)}
    leaves |= {f"{part}/bias": numbers(2, seed=at) for at, part in enumerate(parts)}
    made = port_into(nn.MultiheadAttention(2, 1), leaves, "paddle")
    assert torch.equal(made.in_proj_weight[2:4], leaves["key/weight"].T)
    assert torch.equal(made.out_proj.weight, leaves["output/weight"].T)
    assert torch.equal(made.in_proj_bias[4:], leaves["value/bias"])
