import math

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.remedies.scaling import Rescaled, Standardised, rescale_outputs, standardize_inputs
from remedies.surgeon import trained, undone, untouched

SCALES = torch.tensor([1.0, 100.0, 1e-3, 5.0])
OFFSETS = torch.tensor([0.0, 1000.0, 0.5, -3.0])


def table(batches=6, size=32):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 4, generator=generator) * SCALES + OFFSETS, torch.zeros(size)) for _ in range(batches)]


def images():
    scales = torch.tensor([1.0, 255.0, 0.01, 5.0])[:, None, None]
    return [(torch.rand(8, 4, 5, 5) * scales, torch.zeros(8)) for _ in range(4)]


def sequences():
    return [(inputs.reshape(8, 4, 4), target[:8]) for inputs, target in table()]


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


NETWORKS = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), table, -1),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout(), nn.Flatten(), nn.Linear(54, 2)), images, 1),
    "recurrent": (Reads, sequences, -1),
}


def heard(model, data):
    """What reaches the first layer."""
    name, made = next((name, module) for name, module in model.named_modules() if isinstance(module, Standardised))
    seen = []
    handle = made.layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model.eval()
    for inputs, _ in data:
        model(inputs)
    handle.remove()
    return name, torch.cat(seen)


@pytest.mark.parametrize("kind", NETWORKS)
def test_features_have_mean_zero_and_deviation_one(kind):
    build, batches, axis = NETWORKS[kind]
    model, data = build(), batches()
    change = standardize_inputs(model, data)
    name, seen = heard(model, data)
    assert change.layers == (name,)
    assert change.notes == ()
    features = seen.movedim(axis, -1).flatten(0, -2)
    torch.testing.assert_close(features.mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(0), torch.ones(4), atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("mode", [True, False])
def test_undo_is_exact_and_nothing_else_moves(kind, mode):
    build, batches, _ = NETWORKS[kind]
    model, data = build().train(mode), batches()
    trained(model, data[0][0])
    with undone(model) as changes:
        with untouched(model):
            changes.append(standardize_inputs(model, data))
        model(data[0][0])


def test_weights_stay_and_train_on():
    model, data = NETWORKS["linear"][0](), table()
    optimizer = trained(model, data[0][0])
    weight = model[0].weight
    standardize_inputs(model, data)
    assert model[0].weight is model[0].layer.weight is weight
    assert model[0].in_features == 4
    assert {id(p) for p in model.parameters()} == {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert {"0.mean", "0.deviation"} < set(model.state_dict())
    with pytest.raises(AttributeError, match="nothing"):
        _ = model[0].nothing


def test_columns_that_do_not_vary_are_only_shifted():
    data = table()
    for inputs, _ in data:
        inputs[:, 1] = 7.0
    model = NETWORKS["linear"][0]()
    standardize_inputs(model, data)
    assert float(model[0].deviation[1]) == 1.0
    assert heard(model, data)[1][:, 1].abs().max() < 1e-4


def test_rows_that_are_not_finite_do_not_count():
    clean, odd = table(), table()
    odd.append((torch.full((3, 4), math.nan), torch.zeros(3)))
    odd.append((torch.cat([torch.full((1, 4), math.inf), clean[0][0][:0]]), torch.zeros(1)))
    first, second = NETWORKS["linear"][0](), NETWORKS["linear"][0]()
    standardize_inputs(first, clean)
    standardize_inputs(second, odd)
    assert torch.equal(first[0].mean, second[0].mean)
    assert torch.equal(first[0].deviation, second[0].deviation)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)), [(torch.tensor([[1, 2]]), 0)]),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), table()),
        (nn.Sequential(nn.ReLU()), table()),
    ],
    ids=["embedding", "norm", "no-weights"],
)
def test_where_nothing_can_be_done_it_is_said(model, data):
    before = [type(module) for module in model.modules()]
    change = standardize_inputs(model, data)
    assert change.layers == ()
    assert change.notes == ("the first layer that runs takes no features that can be standardised",)
    change.undo()
    assert [type(module) for module in model.modules()] == before


def test_too_little_data_is_refused():
    model = NETWORKS["linear"][0]()
    with pytest.raises(fl.DataError, match="There are no batches"):
        standardize_inputs(model, [])
    with pytest.raises(fl.DataError, match="The inputs have too few finite values to standardise by"):
        standardize_inputs(model, [(torch.ones(1, 4), 0)])
    assert isinstance(model[0], nn.Linear)


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))

    def forward(self, x):
        return self.body(x).squeeze(1)


@pytest.mark.parametrize(
    ("build", "name"),
    [(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), "2"), (Squeezed, "body.2")],
)
def test_answers_are_given_in_the_unit_of_the_targets(build, name):
    model, data = build(), table()
    before = model(data[0][0])
    change = rescale_outputs(model, data, mean=100.0, deviation=20.0)
    assert change.layers == (name,)
    assert isinstance(model.get_submodule(name), Rescaled)
    assert model.get_submodule(name).out_features == model.get_submodule(name).layer.out_features
    torch.testing.assert_close(model(data[0][0]), 20 * before + 100)
    assert f"{name}.mean" in model.state_dict()
    change.undo()
    torch.testing.assert_close(model(data[0][0]), before, rtol=0, atol=0)


def test_training_goes_as_on_standardised_targets():
    data = [(torch.randn(16, 4), 0.0) for _ in range(20)]
    data = [(inputs, 100 + 20 * inputs[:, :1]) for inputs, _ in data]
    plain, model = (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)) for _ in range(2))
    model.load_state_dict(plain.state_dict())
    rescale_outputs(model, data, mean=100.0, deviation=20.0)
    first, second = torch.optim.SGD(plain.parameters(), lr=0.1), torch.optim.SGD(model.parameters(), lr=0.1 / 400)
    for inputs, target in data:
        for one, optimizer, wanted in ((plain, first, (target - 100) / 20), (model, second, target)):
            optimizer.zero_grad()
            (one(inputs) - wanted).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(model(data[0][0]), 20 * plain(data[0][0]) + 100, rtol=1e-4, atol=1e-3)


class Times(Squeezed):
    def forward(self, x):
        return 2 * self.body(x)


@pytest.mark.parametrize("build", [Times, lambda: nn.Linear(4, 1), Reads], ids="function root other-input".split())
def test_where_the_last_layer_is_not_known_nothing_is_changed(build):
    model, data = build(), table() if build is not Reads else sequences()
    change = rescale_outputs(model, data, mean=1.0, deviation=2.0)
    assert bool(change.layers) is (build is Reads)
    assert bool(change.notes) is (build is not Reads)


@pytest.mark.parametrize("numbers", [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_answers_are_scaled_by_numbers_above_zero(numbers):
    with pytest.raises(fl.DataError, match="cannot be scaled by that"):
        rescale_outputs(nn.Linear(4, 1), table(), *numbers)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.look, self.first, self.second = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, ids, first, second):
        return self.look(ids) + self.first(first) + self.second(second)


@pytest.mark.parametrize(("name", "layer"), [("", "first"), ("1", "first"), ("2", "second"), ("9", "first")])
def test_of_several_inputs_the_one_that_is_meant_is_standardised(name, layer):
    data = [((torch.randint(5, (32,)), inputs, 7 * inputs), 0) for inputs, _ in table()]
    model = Two()
    assert standardize_inputs(model, data, name=name).layers == (layer,)
    torch.testing.assert_close(model.get_submodule(layer).mean, (7 if name == "2" else 1) * torch.cat(
        [inputs[1] for inputs, _ in data]).mean(0))  # fmt: skip


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = self.first(x)
        h += self.second(h)
        return h


def test_an_output_that_was_changed_in_place_is_not_the_layer_s():
    model, data = InPlace(), table()
    before = model(data[0][0])
    change = rescale_outputs(model, data, mean=100.0, deviation=20.0)
    assert not change.layers
    assert change.notes
    assert torch.equal(model(data[0][0]), before)


@pytest.mark.parametrize(("dtype", "mean"), [(torch.float64, 120_000_001.0), (torch.bfloat16, 1001.0)])
def test_large_targets_have_their_digits_in_every_precision(dtype, mean):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)).to(dtype)
    data = [(inputs.to(dtype) / 1000, target) for inputs, target in table()]
    before = model(data[0][0])
    rescale_outputs(model, data, mean=mean, deviation=1.0)
    torch.testing.assert_close(model(data[0][0]).double() - mean, before.double(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_inputs_that_are_all_the_same_stay_finite(value):
    model = nn.Sequential(nn.Linear(4, 2))
    inputs = torch.full((8, 4), value)
    standardize_inputs(model, [(inputs, None)])
    assert torch.isfinite(model(inputs)).all()
    assert torch.equal(model[0].deviation, torch.ones(4))
