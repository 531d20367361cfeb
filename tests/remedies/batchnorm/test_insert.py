import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from frostline import remedies
from helpers_vision import import_torchvision
from remedies.surgeon import trained, undone, untouched


class Net(nn.Module):
    """Modules, functions, pools, and a convolution of each kind."""

    def __init__(self, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=bias)
        self.up = nn.ConvTranspose2d(8, 4, 2, bias=bias)
        self.act = nn.ReLU()
        self.fc = nn.Linear(4 * 3 * 3, 8, bias=bias)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv(x), 2, stride=1))
        x = F.adaptive_avg_pool2d(self.act(self.up(x)), 3)
        return torch.sigmoid(self.out(self.drop(torch.tanh(self.fc(x.flatten(1))))))


def batches(*shape, count=3):
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(8, *shape, generator=generator) * 2 + 1, torch.zeros(8)) for _ in range(count)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("start", ["identity", "normalised"])
def test_insertion_is_where_it_belongs_and_is_undone_to_the_bit(start, bias):
    model, data = Net(bias), batches(3, 6, 6)
    optimizer = trained(model, data[0][0])
    model.drop.eval()
    with undone(model, optimizer) as changes:
        with untouched(model):
            changes.append(remedies.insert_batchnorm(model, data, start=start, optimizer=optimizer))
        assert changes[0].layers == ("conv", "up", "fc")
        assert changes[0].notes == ("out: an output layer",)
        assert [type(m.norm) for m in (model.conv, model.up, model.fc)] == [nn.BatchNorm2d] * 2 + [nn.BatchNorm1d]
        assert model.conv.layer.bias is None
        assert model.conv.norm.training
        model(data[0][0]).sum().backward()
        optimizer.step()
        in_groups = {id(p) for p in optimizer.param_groups[0]["params"]}
        assert {id(p) for p in model.parameters()} == in_groups


def test_identity_keeps_the_outputs_in_both_modes():
    model, data = Net().double(), [(x.double(), y) for x, y in batches(3, 6, 6)]
    model.drop.p = 0.0
    before = [model(x) for x, _ in data]
    remedies.insert_batchnorm(model, data)
    for (x, _), old in zip(data, before, strict=True):
        torch.testing.assert_close(model.eval()(x), old, rtol=1e-9, atol=1e-9)
    (x, _) = torch.cat([x for x, _ in data]), None
    torch.testing.assert_close(model.train()(x), model.eval()(x), rtol=1e-3, atol=1e-3)


def test_normalised_means_normalised_at_every_depth():
    model = nn.Sequential(*(part for _ in range(6) for part in (nn.Linear(8, 8), nn.Tanh())), nn.Linear(8, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.1)
    data = batches(8)
    remedies.insert_batchnorm(model, data, start="normalised")
    x = torch.cat([x for x, _ in data])
    with torch.no_grad():
        for part in model.eval()[:-1]:
            x = part(x)
            if not isinstance(part, nn.Tanh):
                torch.testing.assert_close(x.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
                # the lowest layers' variance is near BatchNorm's eps, which then takes its share
                assert 0.3 < float(x.var(0).mean()) < 1.01


def test_the_bias_becomes_beta_with_its_optimizer_state():
    model, data = Net(), batches(3, 6, 6)
    optimizer = trained(model, data[0][0])
    bias, moment = model.conv.bias, optimizer.state[model.conv.bias]["exp_avg"]
    remedies.insert_batchnorm(model, data, optimizer=optimizer)
    assert model.conv.norm.bias is bias
    assert optimizer.state[bias]["exp_avg"] is moment
    assert model.conv.weight is model.conv.layer.weight  # the pair answers for the layer
    assert not hasattr(model.conv, "no_such_thing")


def test_features_on_the_last_axis_are_normalised_over_all_positions():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    data = [torch.randn(5, 7, 4) for _ in range(2)]
    before = model(data[0])
    remedies.insert_batchnorm(model, data)
    assert type(model[0].norm).__name__ == "LastAxisBatchNorm"
    assert model[0].norm.weight.shape == (6,)
    torch.testing.assert_close(model.eval()(data[0]), before, rtol=1e-4, atol=1e-5)


KINDS = {nn.Conv1d: (3, 9), nn.Conv3d: (3, 5, 5, 5), nn.ConvTranspose1d: (3, 5), nn.ConvTranspose3d: (3, 4, 4, 4)}


@pytest.mark.parametrize(("kind", "shape"), KINDS.items())
def test_every_kind_of_convolution(kind, shape):
    model = nn.Sequential(kind(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    data = batches(*shape)
    before = model(data[0][0])
    assert remedies.insert_batchnorm(model, data).layers == ("0",)
    torch.testing.assert_close(model.eval()(data[0][0]), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_statistics_in_float32(dtype):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).to(dtype)
    data = [torch.randn(16, 4).to(dtype)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model(data[0])
    remedies.insert_batchnorm(model, data, optimizer=optimizer)
    assert model[0].norm.running_var.dtype == torch.float32
    torch.testing.assert_close(model.eval()(data[0]), before, rtol=5e-2, atol=5e-2)
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.never = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm, self.c, self.rnn, self.out = nn.LayerNorm(4), nn.Linear(4, 4), nn.GRU(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.b(torch.relu(self.a(torch.relu(self.a(x)))))))
        return self.out(self.rnn(x + self.c(x))[0])


def test_what_is_left_alone_is_said_with_the_reason():
    text = str(remedies.insert_batchnorm(Twice(), [torch.randn(6, 4)]))
    for line in ("a: called 2 times", "b: a norm follows already", "never: not called", "c: no activation follows",
                 "rnn: a GRU is not treated", "out: an output layer", "0 layers changed"):  # fmt: skip
        assert line in text
    model = Twice()
    assert remedies.insert_batchnorm(model, [torch.randn(6, 4)], where=["c"]).layers == ("c",)
    assert "norm: is not a linear" in str(remedies.insert_batchnorm(model, [torch.randn(6, 4)], where=["norm"]))


def test_transformer_blocks_are_left_alone_unless_named():
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Sequential(block), nn.Linear(8, 2))
    change = remedies.insert_batchnorm(model, [torch.randn(4, 3, 8)])
    assert change.layers == ("0",)
    assert "part of a transformer block" in str(change)
    assert "a MultiheadAttention is not treated" in str(change)


def test_frozen_layers_are_only_treated_by_name():
    model, data = Net(), batches(3, 6, 6)
    fl.freeze(model, through="conv")
    assert remedies.insert_batchnorm(model, data).layers == ("up", "fc")
    remedies.insert_batchnorm(model, data, where=["conv"])
    model.train()
    assert not model.conv.norm.training
    assert not any(p.requires_grad for p in model.conv.parameters())


def test_where_nothing_is_treated_only_the_first_batch_is_run():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    runs = []
    model.register_forward_pre_hook(lambda module, args: runs.append(1))
    change = remedies.insert_batchnorm(model, [torch.randn(3, 4)] * 5)
    assert change.layers == ()
    assert len(runs) <= 2


def test_parametrized_layers_get_one_too():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2))
    x = torch.randn(8, 4)
    before = model(x)
    with undone(model) as changes:
        changes.append(remedies.insert_batchnorm(model, [x]))
        assert changes[0].layers == ("0",)
        torch.testing.assert_close(model.eval()(x), before, rtol=1e-4, atol=1e-5)


def test_shared_layers_and_tied_biases():
    layer = nn.Linear(4, 4)
    other = nn.Linear(4, 4)
    other.bias = layer.bias
    model = nn.Sequential(layer, nn.ReLU(), other, nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(8, 4)
    before = model(x)
    with undone(model) as changes:
        changes.append(remedies.insert_batchnorm(model, [x], where=["0"]))
        assert other.bias is not None
        assert model[0].norm.bias is not other.bias
        torch.testing.assert_close(model.eval()(x), before, rtol=1e-4, atol=1e-5)


def test_a_shuffled_loader_leaves_the_generator_alone():
    model, data = Net(), DataLoader(TensorDataset(torch.randn(20, 3, 6, 6), torch.zeros(20)), 5, shuffle=True)
    with untouched(model):
        remedies.insert_batchnorm(model, data, start="normalised")
    assert "no optimizer trains" in str(remedies.insert_batchnorm(Net(), iter(data)))


@pytest.mark.filterwarnings("ignore")
def test_a_torchvision_model():
    torchvision = import_torchvision()
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=4)
    data = [torch.randn(2, 3, 48, 48)]
    model.eval()
    before = model(data[0])
    change = remedies.insert_batchnorm(model, data)
    assert len(change.layers) == 25
    torch.testing.assert_close(model(data[0]), before, rtol=1e-3, atol=1e-4)


class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.relu(self.fc(x)) if type(self.fc) is nn.Linear else torch.relu(self.fc(x)) + 1)


def test_what_cannot_be_done_is_refused_and_the_model_is_as_before():
    with pytest.raises(fl.DataError, match="no such start for a BatchNorm"):
        remedies.insert_batchnorm(Net(), batches(3, 6, 6), start="zero")
    with pytest.raises(fl.DataError, match="There are no batches"):
        remedies.insert_batchnorm(Net(), [])
    with pytest.raises(fl.DataError, match="at least two values per channel"):
        remedies.insert_batchnorm(Choosy(), [torch.randn(1, 4)])
    with pytest.raises(fl.DataError, match="to measure are not finite"):
        remedies.insert_batchnorm(Choosy(), [torch.full((3, 4), torch.nan)])
    with pytest.raises(fl.DataError, match="cannot be called with these inputs"):
        remedies.insert_batchnorm(Choosy(), [{"y": torch.randn(3, 4)}])
    model = Choosy()
    kinds = [id(m) for m in model.modules()]
    with pytest.raises(fl.DataError, match="do not keep the outputs, although they should"):
        remedies.insert_batchnorm(model, [torch.randn(3, 4)])
    assert [id(m) for m in model.modules()] == kinds
    complex_net = nn.Sequential(
        nn.Linear(4, 4, dtype=torch.complex64), nn.Tanh(), nn.Linear(4, 2, dtype=torch.complex64)
    )
    change = remedies.insert_batchnorm(complex_net, [torch.randn(3, 4, dtype=torch.complex64)])
    assert "0, 2: has complex64 weights" in str(change)
