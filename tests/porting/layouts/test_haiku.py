from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.errors import PortError
from frostline.porting.blocks import ResetBeforeGRU
from helpers_porting import numbers, port_into

FILES = Path(__file__).parents[1] / "files" / "haiku"


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.hidden = nn.Linear(6, 4), nn.Linear(6, 6)
        self.groups, self.norm = nn.GroupNorm(2, 6), nn.BatchNorm2d(6)
        self.grow, self.conv = nn.ConvTranspose2d(6, 6, 3), nn.Conv2d(4, 6, 3)

    def forward(self, x):
        x = self.grow(self.norm(self.conv(x.permute(0, 3, 1, 2)).relu()))
        return self.head(self.hidden(self.groups(x).mean((2, 3))).relu())


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.grow = nn.ConvTranspose2d(4, 4, 3)

    def forward(self, x):
        return self.grow(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.rnn = nn.LayerNorm(8), nn.LSTM(4, 8, batch_first=True)

    def forward(self, x):
        return self.norm(self.rnn(x)[0])


class Gated(nn.Module):
    def __init__(self, kind=ResetBeforeGRU):
        super().__init__()
        self.out, self.rnn = nn.Linear(8, 3), kind(4, 8)

    def forward(self, x):
        return self.out(self.rnn(x)[0])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.table = nn.Linear(5, 2), nn.Embedding(7, 5)

    def forward(self, x):
        return self.out(self.table(x.long()).mean(1))


class OwnNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.groups, self.norm = nn.Linear(6, 4), nn.GroupNorm(2, 6), nn.BatchNorm2d(6)
        self.grow, self.conv = nn.ConvTranspose2d(6, 6, 2, 2), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        x = self.grow(self.norm(self.conv(x.permute(0, 3, 1, 2))).relu())
        return self.out(self.groups(x).mean((2, 3)))


class Plain(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.out, self.rnn, self.into = nn.Linear(8, 3), nn.RNN(8, 8, batch_first=True, **options), nn.Linear(4, 8)

    def forward(self, x):
        return self.out(self.rnn(self.into(x))[0])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("convolutions", Convolutions), ("transposed", Transposed), ("lstm", Recurrent), ("gru", Gated),
     ("attention", Attention), ("words", Words), ("own_names", OwnNames),
     ("rnn", lambda: Plain(nonlinearity="relu"))],
)  # fmt: skip
def test_networks_of_haiku_compute_the_same(name, kind):
    stored = np.load(FILES / f"{name}.golden.npz")
    hints = {"conv2_d_transpose": "grow", "linear": "head"} if name == "convolutions" else None
    certificate = fl.port(FILES / f"{name}.npz", model := kind().eval(), hints=hints)
    assert not certificate.unused
    with torch.no_grad():
        made = model(torch.as_tensor(stored["inputs"]))
    assert torch.allclose(made, torch.as_tensor(stored["outputs"]), rtol=1e-4, atol=1e-5)


def test_a_vanilla_rnn_is_refused_for_one_with_another_activation():
    with pytest.raises(PortError, match="'vanilla_rnn' is a VanillaRNN of Haiku, whose activation is ReLU") as caught:
        fl.port(FILES / "rnn.npz", Plain())
    assert "nonlinearity='relu'" in caught.value.do


def test_the_gru_of_haiku_is_refused_for_another_one():
    with pytest.raises(PortError, match="reset gate acts before the product") as caught:
        fl.port(FILES / "gru.npz", Gated(nn.GRU))
    assert "ResetBeforeGRU" in caught.value.do


def test_the_layout_of_the_update_gate_is_its_own_inverse():
    own = port_into(ResetBeforeGRU(4, 2), {"w_i": numbers(4, 6), "w_h": numbers(2, 6), "b": numbers(6)}, "haiku")
    assert torch.equal(own.bias, numbers(6) * torch.tensor([-1, -1, 1, 1, 1, 1]))
