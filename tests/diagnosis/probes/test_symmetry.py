import pytest
import torch
from torch import nn

from frostline.diagnosis.monitor.layers import find_layers
from frostline.diagnosis.probes.symmetry import copies


def share(module):
    return copies(find_layers(nn.Sequential(module))).get("0")


def filled(module, value):
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)
    return module


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(4, 8), nn.Conv2d(3, 8, 3), nn.ConvTranspose1d(3, 8, 3), nn.Linear(1000, 1000),
        nn.LSTM(4, 8, num_layers=2, bidirectional=True), nn.GRUCell(4, 8), nn.LSTM(4, 8, proj_size=3),
    ],
)  # fmt: skip
def test_drawn_weights_are_no_copies(module):
    assert share(module) == 0.0


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize(
    "module",
    [nn.Linear(4, 8), nn.Conv2d(3, 8, 3), nn.ConvTranspose1d(3, 8, 3), nn.GRU(4, 8), nn.LSTM(4, 8, bias=False),
     nn.RNNCell(4, 8)],
)  # fmt: skip
def test_constant_weights_are(module, value):
    assert share(filled(module, value)) == pytest.approx(7 / 8)


def test_half_of_them():
    layer = nn.Linear(4, 8)
    with torch.no_grad():
        layer.weight[4:] = layer.weight[0]
        layer.bias[4:] = layer.bias[0]
    assert share(layer) == pytest.approx(4 / 8)


def test_biases_part_units_and_pruned_units_are_no_copies():
    layer = filled(nn.Linear(4, 8), 0.1)
    with torch.no_grad():
        layer.bias.normal_()
    assert share(layer) == 0.0
    pruned = nn.Linear(4, 8)
    with torch.no_grad():
        pruned.weight[2:7] = 0
        pruned.bias[2:7] = 0
    assert share(pruned) == 0.0


def test_what_cannot_or_need_not_be_compared():
    assert share(nn.Linear(4, 1)) is None
    assert share(filled(nn.Linear(4, 8), 0.0).requires_grad_(False)) is None
    assert share(nn.Embedding(5, 3)) is None
    assert share(nn.Linear(4, 8, dtype=torch.complex64)) is None
    assert share(filled(nn.Linear(4, 8), float("nan"))) is None


def test_gates_tell_units_apart_and_one_constant_direction_is_enough():
    gru = filled(nn.GRU(4, 8, bidirectional=True), 0.1)
    torch.nn.init.normal_(gru.weight_ih_l0)
    assert share(gru) == pytest.approx(7 / 8)
    torch.nn.init.normal_(gru.bias_hh_l0_reverse)
    assert share(gru) == 0.0


@pytest.mark.parametrize(("is_copy", "expected"), [(True, 0.5), (False, 0.0)])
def test_two_units_that_are_left_are_compared(is_copy, expected):
    layer = nn.Linear(4, 8)
    with torch.no_grad():
        layer.weight[2:], layer.bias[2:] = 0, 0
        if is_copy:
            layer.weight[1], layer.bias[1] = layer.weight[0], layer.bias[0]
    assert share(layer) == pytest.approx(expected)


def test_weights_that_a_parametrization_computes_are_read_without_a_step_of_it():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert share(layer) == 0.0
    assert share(filled(layer, 0.1)) == pytest.approx(7 / 8)
    assert layer.training
    assert all(torch.equal(layer.state_dict()[name], before[name]) for name in before if name.endswith(("_u", "_v")))
