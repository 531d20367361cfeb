import pytest
import torch
from torch import nn

import frostline as fl
from frostline import remedies
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


def test_half_precision_is_drawn():
    model = net().half()
    remedies.initialize(model, layers=["0"])
    assert model[0].weight.dtype == torch.float16


def test_nothing_is_wiped_out_by_default():
    with pytest.raises(fl.DataError, match="Nothing says which layers may be initialised"):
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
