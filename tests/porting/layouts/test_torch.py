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


@torch.no_grad()
def test_a_cell_of_equinox_has_one_bias_and_one_for_the_last_gate_of_the_state():
    leaves = {"weight_ih": numbers(6, 3), "weight_hh": numbers(6, 2), "bias": numbers(6), "bias_n": numbers(2)}
    own, x, h = port_into(nn.GRU(3, 2), leaves, "torch"), numbers(3), numbers(2)
    (xr, xz, xn), (hr, hz, hn) = (numbers(6, 3) @ x + numbers(6)).chunk(3), (numbers(6, 2) @ h).chunk(3)
    z, n = (xz + hz).sigmoid(), (xn + (xr + hr).sigmoid() * (hn + numbers(2))).tanh()
    assert torch.allclose(own(x[None], h[None])[0][0], n + z * (h - n), atol=1e-6)
    leaves = {"weight_ih": numbers(8, 3), "weight_hh": numbers(8, 2), "bias": numbers(8)}
    own = port_into(nn.LSTMCell(3, 2), leaves, "torch")
    assert torch.equal(own.bias_ih, numbers(8))
    assert own.bias_hh.tolist() == [0] * 8


def test_a_bias_may_have_the_axes_of_a_map_but_not_in_a_transposed_convolution():
    leaves = {"weight": numbers(3, 3, 2, 2), "bias": numbers(3, 1, 1)}
    assert torch.equal(port_into(nn.Conv2d(3, 3, 2), leaves, "torch").bias, numbers(3, 1, 1).flatten())
    assert port_into(nn.ConvTranspose2d(3, 3, 2), leaves, "torch") is None
