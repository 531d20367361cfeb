import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline import remedies
from frostline.core.tracing import trace
from frostline.remedies.initialization import Follower, draw, follower_in_order, follower_in_run
from remedies.surgeon import trained, undone, untouched


def net(depth=6) -> nn.Sequential:
    inner = (part for _ in range(depth) for part in (nn.Linear(32, 32), nn.ReLU()))
    return nn.Sequential(*inner, nn.Linear(32, 2))


@pytest.mark.parametrize("scheme", ["auto", "he", "glorot", "lecun", "orthogonal"])
def test_initialising_is_undone_to_the_bit(scheme):
    model, x = net(), torch.randn(8, 32)
    optimizer = trained(model, x)
    with undone(model, optimizer) as changes:
        with untouched(model):
            changes.append(remedies.initialize(model, scheme, layers=["0", "2"], batch=x, optimizer=optimizer))
        assert changes[0].layers == ("0", "2")
        assert model[0].weight not in optimizer.state
        assert model[4].weight in optimizer.state
        assert not model[0].bias.any()


def test_a_signal_that_died_lives_again():
    model, x = net(12), torch.randn(64, 32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.01)
    remedies.initialize(model, include_pretrained=True, batch=x)
    assert 0.03 < float(model[:-1](x).detach().square().mean()) < 30  # was 1e-50; 32 wide layers scatter


def test_the_same_seed_draws_the_same_and_no_global_generator_is_touched():
    a, b, c = net(), net(), net()
    for model, seed in ((a, 1), (b, 1), (c, 2)):
        remedies.initialize(model, include_pretrained=True, seed=seed)
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)


def test_frozen_layers_are_never_touched_unless_named():
    model = net()
    fl.freeze(model, through="2")
    weight = model[0].weight.clone()
    change = remedies.initialize(model, include_pretrained=True)
    assert change.layers == ("4", "6", "8", "10", "12")
    assert "0, 2: frozen, left alone" in str(change)
    assert torch.equal(model[0].weight, weight)
    remedies.initialize(model, layers=["0"])
    assert not torch.equal(model[0].weight, weight)
    assert not model[0].weight.requires_grad


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_recurrent_layers(kind):
    module = kind(6, 4)
    model = nn.ModuleList([module])
    with undone(model) as changes:
        changes.append(remedies.initialize(model, layers="0"))
        named = dict(module.named_parameters())
        recurrent = next(value for name, value in named.items() if "weight_hh" in name)
        for gate in recurrent.detach().split(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-5, rtol=0)
        biases = sum(value for name, value in named.items() if "bias" in name).detach()
        expected = torch.zeros_like(biases)
        if "LSTM" in kind.__name__:
            expected[4:8] = 1
        assert torch.equal(biases, expected)


def test_projected_and_stacked_lstms():
    model = nn.Sequential(nn.LSTM(6, 4, num_layers=2, proj_size=3, bidirectional=True))
    assert remedies.initialize(model, layers="0").layers == ("0",)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.inner, self.out = nn.Embedding(8, 4), nn.Linear(4, 4), nn.Linear(4, 8, bias=False)
        self.out.weight = self.table.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.wave = nn.Linear(4, 4, dtype=torch.complex64)
        self.norm = nn.LayerNorm(4)

    def forward(self, ids):
        return self.out(self.normed(self.norm(torch.tanh(self.inner(self.table(ids))))))


def test_tied_parametrized_and_complex_weights_are_left_alone_and_said():
    model = Tied()
    text = str(remedies.initialize(model, include_pretrained=True, batch=torch.zeros(2, 3).long()))
    assert "out: shares a parameter with table (Embedding)" in text
    assert "normed: its weight is computed from other parameters" in text
    assert "wave: has complex weights" in text
    assert "1 layers changed" in text
    assert "norm: a LayerNorm is not initialised" in str(remedies.initialize(model, layers=["norm"]))


def test_a_recurrent_layer_with_a_computed_weight_is_left_alone_and_said():
    model = nn.Sequential(nn.Linear(3, 3), nn.RNN(3, 3))
    nn.utils.parametrizations.spectral_norm(model[1], "weight_hh_l0")
    kept = model[1].weight_ih_l0.detach().clone()
    change = remedies.initialize(model, include_pretrained=True)
    assert "1: its weight is computed from other parameters" in str(change)
    assert change.layers == ("0",)
    assert torch.equal(model[1].weight_ih_l0, kept)


def test_half_precision_is_drawn():
    model = net().half()
    remedies.initialize(model, layers=["0"])
    assert model[0].weight.dtype == torch.float16


def test_nothing_is_wiped_out_by_default():
    with pytest.raises(fl.DataError, match="No layers to initialise were named"):
        remedies.initialize(net())
    with pytest.raises(fl.DataError, match="no initialisation named 'kaiming'"):
        remedies.initialize(net(), "kaiming", layers=["0"])
    with pytest.raises(fl.LayerNotFound, match="no layer named '99'"):
        remedies.initialize(net(), layers=["99"])


def test_lsuv_gives_every_named_layer_unit_variance():
    model, x = net(), torch.randn(128, 32) * 7 + 3
    optimizer = trained(model, x)
    with undone(model, optimizer) as changes:
        with untouched(model):
            changes.append(remedies.lsuv(model, (x, None), layers=["10", "0", "2"], optimizer=optimizer))
        assert changes[0].layers == ("0", "2", "10")
        assert changes[0].notes == ()
        with torch.no_grad():
            assert float(model[:1](x).var()) == pytest.approx(1, abs=0.1)
            assert float(model[:11](x).var()) == pytest.approx(1, abs=0.1)


def test_lsuv_says_what_it_could_not_do():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.never, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4)

        def forward(self, x):
            return self.b(self.a(x) * 0)

    change = remedies.lsuv(Odd(), torch.randn(8, 4), layers=["a", "b", "never", "norm"])
    assert change.layers == ("a", "b")
    for text in ("b: its output does not vary", "never: not called", "norm: a LayerNorm"):
        assert text in str(change)
    assert "iterations" in str(remedies.lsuv(Odd(), torch.randn(8, 4), layers="a", tolerance=1e-30, max_iterations=1))


def test_lsuv_refuses_what_it_cannot_measure():
    model = net()
    weight = model[0].weight.clone()
    with pytest.raises(fl.DataError, match="to measure are not finite"):
        remedies.lsuv(model, torch.full((4, 32), torch.nan), layers="0")
    assert torch.equal(model[0].weight, weight)
    with pytest.raises(fl.DataError, match="tolerance is not a finite number above 0"):
        remedies.lsuv(model, torch.randn(4, 32), layers="0", tolerance=0)


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
