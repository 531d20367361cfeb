import torch
from helpers_porting import numbers, source_of
from torch import nn

from frostline.porting.grouping import grouped
from frostline.porting.units import source_units, target_units


def names(units, module):
    made = grouped(source_units(source_of("keras", units)), target_units(module))
    return {unit.name: tuple(unit.leaves) for unit in made}


def test_a_separable_convolution_is_two_layers():
    leaves = {"depthwise_kernel": numbers(3, 3, 2, 1), "pointwise_kernel": numbers(1, 1, 2, 4), "bias": numbers(4)}
    assert names({"sep": leaves}, nn.Linear(1, 1)) == {
        "sep/depthwise": ("depthwise_kernel",), "sep/pointwise": ("kernel", "bias"),
    }  # fmt: skip


def test_the_bias_of_a_gru_is_two_and_covers_both_rows():
    leaves = {"kernel": numbers(2, 6), "recurrent_kernel": numbers(2, 6), "bias": numbers(2, 6)}
    (unit,) = grouped(source_units(source_of("keras", {"gru": leaves})), ())
    assert torch.equal(torch.stack([unit.leaves["bias[0]"].load(), unit.leaves["bias[1]"].load()]), leaves["bias"])


def test_the_layers_of_a_layer_are_units_of_their_own():
    leaves = {"backward/kernel": numbers(2, 8), "forward/kernel": numbers(2, 8)}
    assert set(names({"both": leaves}, nn.Linear(1, 1))) == {"both/backward", "both/forward"}
    attention = {f"{part}/kernel": numbers(2, 1, 2) for part in ("query", "key", "value", "attention_output")}
    assert set(names({"look": attention}, nn.MultiheadAttention(2, 1))) == {"look"}
    assert len(names({"look": attention}, nn.Linear(2, 2))) == 4


def test_dense_layers_of_a_cell_are_one_layer():
    cell = {f"cell/{part}": {"kernel": numbers(2, 2)} for part in ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho")}
    assert list(names({"before": {"kernel": numbers(2, 2)}} | cell, nn.LSTM(2, 2))) == ["before", "cell"]
    del cell["cell/ho"]
    assert len(names(cell, nn.LSTM(2, 2))) == 7
