import torch
from torch import nn
from torch.nn import functional as F

from helpers_porting import numbers, port_into


@torch.no_grad()
def test_transposed_convolutions_are_mirrored():
    kernel, x = numbers(3, 3, 2, 4), numbers(1, 2, 5, 5)  # (h, w, in, out)
    own = port_into(nn.ConvTranspose2d(2, 4, 3, bias=False), {"kernel": kernel}, "flax")
    # at stride 1 it is a plain convolution of the padded input with the kernel as it is stored
    plain = F.conv2d(F.pad(x, (2, 2, 2, 2)), kernel.permute(3, 2, 0, 1))
    assert torch.allclose(own(x), plain, atol=1e-5)


def test_norms_and_embeddings_have_names_of_their_own():
    own = port_into(
        nn.BatchNorm2d(3), {"scale": numbers(3), "bias": numbers(3), "mean": numbers(3), "var": numbers(3)}, "flax"
    )
    assert torch.equal(own.running_mean, numbers(3))
    assert torch.equal(port_into(nn.Embedding(4, 4), {"embedding": numbers(4, 4)}, "flax").weight, numbers(4, 4))


@torch.no_grad()
def test_the_gates_of_a_cell_are_packed_and_missing_biases_are_zero():
    leaves = {f"{side}{gate}/kernel": numbers(2, 2, seed=at) for at, (side, gate) in enumerate(
        (side, gate) for side in "ih" for gate in "rzn")}  # fmt: skip
    leaves |= {f"i{gate}/bias": numbers(2, seed=9) for gate in "rzn"} | {"hn/bias": numbers(2, seed=5)}
    own = port_into(nn.GRUCell(2, 2), leaves, "flax")
    assert own.bias_hh.tolist()[:4] == [0, 0, 0, 0]
    assert torch.equal(own.bias_hh[4:], numbers(2, seed=5))
    assert torch.equal(own.weight_ih[2:4], leaves["iz/kernel"].T)


@torch.no_grad()
def test_cells_of_nnx_lie_as_those_of_pytorch():
    leaves = {"dense_i/kernel": numbers(3, 6), "dense_i/bias": numbers(6), "dense_h/kernel": numbers(2, 6)}
    own = port_into(nn.GRU(3, 2), leaves, "flax")
    x, h = numbers(3), numbers(2)
    (xr, xz, xn), (hr, hz, hn) = (x @ numbers(3, 6) + numbers(6)).chunk(3), (h @ numbers(2, 6)).chunk(3)
    r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
    assert torch.allclose(own(x[None], h[None])[0][0], (1 - z) * (xn + r * hn).tanh() + z * h, atol=1e-6)
    own = port_into(nn.LSTM(3, 2), {"dense_i/kernel": numbers(3, 8), "dense_h/kernel": numbers(2, 8),
                                    "dense_h/bias": numbers(8)}, "flax")  # fmt: skip
    assert torch.equal(own.bias_hh_l0, numbers(8))
    assert own.bias_ih_l0.tolist() == [0] * 8
    own = port_into(nn.RNN(3, 2), {"dense_i/kernel": numbers(3, 2), "dense_i/bias": numbers(2),
                                   "dense_h/kernel": numbers(2, 2)}, "flax")  # fmt: skip
    assert torch.equal(own.weight_ih_l0, numbers(3, 2).T)


def test_one_slope_for_all_channels():
    assert port_into(nn.PReLU(), {"negative_slope": torch.tensor(0.2)}, "flax").weight.shape == (1,)
