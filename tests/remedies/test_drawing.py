import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.core.tracing import trace
from frostline.remedies.drawing import Follower, draw, follower_in_order, follower_in_run


def deviation(module, scheme, follower=Follower("ReLU")):  # noqa: B008
    return float(draw(module, scheme, follower, torch.Generator().manual_seed(0)).std())


def test_fans_are_counted_for_every_kind_of_layer():
    assert deviation(nn.Linear(400, 100), "he") == pytest.approx(math.sqrt(2 / 400), rel=0.05)
    assert deviation(nn.Linear(400, 100), "lecun") == pytest.approx(math.sqrt(1 / 400), rel=0.05)
    assert deviation(nn.Linear(400, 100), "glorot") == pytest.approx(math.sqrt(2 / 500), rel=0.05)
    assert deviation(nn.Conv2d(64, 64, 3, groups=2), "he") == pytest.approx(math.sqrt(2 / (32 * 9)), rel=0.05)
    assert deviation(nn.ConvTranspose2d(64, 16, 4, stride=2), "he") == pytest.approx(math.sqrt(2 / (64 * 4)), rel=0.05)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_signal_keeps_its_size(kind):
    module = kind(32, 32, 4, stride=2)
    with torch.no_grad():
        module.weight.copy_(draw(module, "lecun", Follower(), torch.Generator().manual_seed(0)))
        module.bias.zero_()
        out = module(torch.randn(4, 32, 24, 24))[..., 2:-2, 2:-2]
    assert float(out.var()) == pytest.approx(1.0, rel=0.1)


def test_the_scheme_goes_by_the_activation():
    kinds = {"": ("glorot", 1.0), "Tanh": ("glorot", 5 / 3), "ReLU": ("he", 2**0.5), "SELU": ("lecun", 1.0),
             "Sigmoid": ("glorot", 1.0), "GELU": ("he", 1.5335), "ELU": ("he", 1.2452)}  # fmt: skip
    assert {kind: (Follower(kind).scheme, Follower(kind).gain) for kind in kinds} == kinds
    assert Follower("LeakyReLU", 1.0).gain == 1.0


def test_orthogonal_rows():
    weight = draw(nn.Linear(8, 4), "orthogonal", Follower("ReLU"), torch.Generator().manual_seed(0))
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(4), atol=1e-5, rtol=0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.act = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.PReLU(init=0.5)
        self.b, self.c, self.d = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.c(F.leaky_relu(self.act(self.norm(self.a(x))) + self.b(x)))


def test_the_activation_is_found_by_running_or_by_order():
    model = Net().eval()
    traced = trace(model, torch.randn(3, 4))
    assert follower_in_run(model.a, traced) == Follower("PReLU", 0.5)
    assert follower_in_run(model.b, traced) == Follower("LeakyReLU", 0.01)
    assert follower_in_run(model.c, traced) == Follower()
    assert follower_in_run(model.d, traced) is None
    assert follower_in_order(model.a, model) == Follower("PReLU", 0.5)
    assert follower_in_order(model.b, model) == Follower()


@pytest.mark.parametrize("kind", ["ELU", "GELU", "SiLU", "Mish", "Hardswish"])
def test_the_gain_keeps_the_size_of_the_signal(kind):
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)
    size = (weight * getattr(nn, kind)()(z).square()).sum() / weight.sum()
    assert Follower(kind).gain == pytest.approx(float(size) ** -0.5, rel=1e-3)
