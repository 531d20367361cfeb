import torch
from torch import nn

from frostline.porting.units.forms.haiku import renamed
from frostline.porting.units.unit import source_units
from helpers_porting import formed, numbers, source_of


def test_statistics_come_to_their_norm_without_the_axes_of_a_map():
    units = {
        "batch_norm": {"offset": numbers(1, 1, 1, 3), "scale": numbers(1, 1, 1, 3)},
        "batch_norm/~/mean_ema": {"average": numbers(1, 1, 1, 3)},
        "batch_norm/~/var_ema": {"average": numbers(3, 1, 1)},
    }
    for order in (units, dict(reversed(units.items()))):
        found = formed("haiku", order, nn.BatchNorm2d(3))
        assert found == {"batch_norm": dict.fromkeys(("bias", "scale", "mean", "var"), (3,))}


def test_the_kernel_of_an_lstm_is_that_of_its_input_and_that_of_its_state():
    found = formed("haiku", {"net/lstm_1/linear": {"w": numbers(5, 8), "b": numbers(8)}}, nn.LSTM(3, 2))
    assert found == {"net/lstm_1": {"kernel_of_input": (3, 8), "kernel_of_state": (2, 8), "bias": (8,)}}
    units = source_units(source_of("haiku", {"lstm/linear": {"w": numbers(5, 8)}}))
    parts = renamed(units)[0].leaves
    assert torch.equal(torch.cat([one.load() for one in parts.values()]), numbers(5, 8))


def test_what_is_no_cell_stays_one_layer():
    for name, shape in (("lstm/linear", (2, 8)), ("lstm/linear", (5, 7)), ("mlp/linear", (5, 8))):
        assert formed("haiku", {name: {"w": numbers(*shape)}}, nn.Linear(5, 8)) == {name: {"kernel": shape}}


def test_both_layers_of_a_vanilla_rnn_are_one_where_the_module_has_one():
    cell = {"linear": {"w": numbers(3, 2), "b": numbers(2)}, "linear_1": {"w": numbers(2, 2)}}
    units = {f"net/vanilla_rnn/{name}": leaves for name, leaves in cell.items()}
    found = formed("haiku", units, nn.RNNCell(3, 2))
    assert found == {"net/vanilla_rnn": {"dense_i/kernel": (3, 2), "dense_i/bias": (2,), "dense_h/kernel": (2, 2)}}
    assert set(formed("haiku", units, nn.Linear(3, 2), nn.Linear(2, 2))) == set(units)
    (alone,) = formed("haiku", {"rnn/linear": cell["linear"]}, nn.RNN(3, 2))
    assert alone == "rnn/linear"


def test_units_of_other_frameworks_stay_as_they_are():
    units = source_units(source_of("flax", {"linear": {"w": numbers(2, 2)}, "x/~/mean_ema": {"average": numbers(2)}}))
    assert renamed(units) == list(units)
