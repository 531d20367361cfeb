"""The rules against what the layers compute; real files of Keras are in tests/porting/test_networks.py."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers_porting import numbers, port_into


@torch.no_grad()
def test_depthwise_multipliers_stay_with_their_channel():
    kernel, x = numbers(3, 3, 2, 2), numbers(1, 5, 5, 2)  # (h, w, in, multiplier), (B, h, w, in)
    own = port_into(nn.Conv2d(2, 4, 3, groups=2, bias=False), {"depthwise_kernel": kernel})
    made = own(x.permute(0, 3, 1, 2))
    for channel in range(2):
        for multiplier in range(2):
            one = F.conv2d(x[..., channel][:, None], kernel[:, :, channel, multiplier][None, None])
            assert torch.allclose(made[:, 2 * channel + multiplier], one[:, 0], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("has_bias", [True, False])
def test_dense(has_bias):
    leaves = {"kernel": numbers(4, 4)} | ({"bias": numbers(4)} if has_bias else {})
    own = port_into(nn.Linear(4, 4), leaves)
    x = numbers(2, 4)
    assert torch.allclose(own(x), x @ leaves["kernel"] + leaves.get("bias", torch.zeros(4)), atol=1e-6)


def test_an_embedding_is_not_transposed():
    table = numbers(5, 5)
    assert torch.equal(port_into(nn.Embedding(5, 5), {"embeddings": table}).weight, table)


@torch.no_grad()
def test_the_gates_of_a_gru_change_places_and_its_bias_has_two_rows():
    units, inputs = 2, 3
    kernel, recurrent, bias = numbers(inputs, 3 * units), numbers(units, 3 * units), numbers(2, 3 * units)
    own = port_into(
        nn.GRU(inputs, units, batch_first=True), {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias}
    )
    x, h = numbers(1, inputs), numbers(1, units)
    zx, rx, hx = (x @ kernel + bias[0]).chunk(3, 1)
    zh, rh, hh = (h @ recurrent + bias[1]).chunk(3, 1)
    z = (zx + zh).sigmoid()
    after = z * h + (1 - z) * (hx + (rx + rh).sigmoid() * hh).tanh()
    assert torch.allclose(own(x[:, None], h[None])[0][:, 0], after, atol=1e-6)


def test_a_gru_with_its_reset_before_the_product_is_no_gru_of_pytorch():
    leaves = {"kernel": numbers(3, 6), "recurrent_kernel": numbers(2, 6), "bias": numbers(6)}
    assert port_into(nn.GRU(3, 2), leaves) is None


@torch.no_grad()
def test_the_parts_of_an_attention_are_packed():
    width, heads, size = 6, 2, 3
    leaves = {
        f"{part}/kernel": numbers(width, heads, size, seed=at) for at, part in enumerate(("query", "key", "value"))
    }
    leaves |= {f"{part}/bias": numbers(heads, size, seed=at) for at, part in enumerate(("query", "key", "value"))}
    leaves |= {"attention_output/kernel": numbers(heads, size, width), "attention_output/bias": numbers(width)}
    own = port_into(nn.MultiheadAttention(width, heads, batch_first=True), leaves)
    x = numbers(1, 4, width)
    q, k, v = (
        torch.einsum("btd,dhs->bhts", x, leaves[f"{part}/kernel"]) + leaves[f"{part}/bias"][:, None]
        for part in ("query", "key", "value")
    )
    mixed = (q @ k.mT / size**0.5).softmax(-1) @ v
    out = torch.einsum("bhts,hsd->btd", mixed, leaves["attention_output/kernel"]) + leaves["attention_output/bias"]
    assert torch.allclose(own(x, x, x)[0], out, atol=1e-5)


def test_an_attention_without_biases_has_zeros_there():
    leaves = {f"{part}/kernel": numbers(4, 2, 2) for part in ("query", "key", "value")}
    leaves |= {"attention_output/kernel": numbers(2, 2, 4)}
    own = port_into(nn.MultiheadAttention(4, 2), leaves)
    assert not own.in_proj_bias.any()
    assert not own.out_proj.bias.any()


def test_a_norm_without_scale_or_center():
    mean, variance = numbers(3), numbers(3, seed=1)
    own = port_into(nn.BatchNorm1d(3), {"moving_mean": mean, "moving_variance": variance})
    assert own.weight.tolist() == [1, 1, 1]
    assert own.bias.tolist() == [0, 0, 0]
    assert torch.equal(own.running_var, variance)
    assert port_into(nn.BatchNorm1d(3), {"gamma": mean, "beta": mean}) is None  # statistics have no default


def test_shared_axes_of_a_prelu_are_left_out():
    assert port_into(nn.PReLU(3), {"alpha": numbers(1, 1, 3)}).weight.shape == (3,)
    assert port_into(nn.PReLU(3), {"alpha": numbers(2, 2, 3)}) is None


def test_a_convolution_over_one_place_is_a_linear_layer():
    kernel = numbers(1, 1, 3, 4)
    assert torch.equal(port_into(nn.Linear(3, 4, bias=False), {"kernel": kernel}).weight, kernel[0, 0].T)
