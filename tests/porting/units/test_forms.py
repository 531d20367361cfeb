import torch
from torch import nn

from frostline.porting.units.forms import grouped, other_forms
from frostline.porting.units.units import source_units, target_units
from helpers_porting import numbers, source_of


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


def test_projections_of_an_attention_by_their_usual_names():
    square = {"weight": numbers(2, 2), "bias": numbers(2)}
    module = nn.MultiheadAttention(2, 1)
    bert = {f"layer/0/{part}": square for part in ("self/query", "self/key", "self/value", "output/dense")}
    assert "output/weight" in names(bert, module)["layer/0"]
    # a second layer of the same shapes beside them may be the one that is meant
    doubtful = {f"layer/0/{part}": square for part in ("query", "key", "value", "output", "intermediate")}
    assert len(names(doubtful, module)) == 5


def test_dense_layers_of_a_cell_are_one_layer():
    cell = {f"cell/{part}": {"kernel": numbers(2, 2)} for part in ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho")}
    assert list(names({"before": {"kernel": numbers(2, 2)}} | cell, nn.LSTM(2, 2))) == ["before", "cell"]
    del cell["cell/ho"]
    assert len(names(cell, nn.LSTM(2, 2))) == 7


def test_a_unit_that_fits_no_layer_has_other_forms():
    (unit,) = source_units(source_of("flax", {"block": {"kernel": numbers(3, 2, 2), "bias": numbers(3, 2)}}))
    apart, stacked = other_forms(unit)
    assert [one.name for one in apart] == ["block/kernel", "block/bias"]
    assert [one.name for one in stacked] == ["block/0", "block/1", "block/2"]
    assert torch.equal(stacked[2].leaves["bias"].load(), numbers(3, 2)[2])
    assert stacked[1].leaves["kernel"].name == "block/kernel[1]"


def test_one_kernel_of_a_cell_is_that_of_its_input_and_that_of_its_state():
    made = names_of("tensorflow", {"rnn/basic_lstm_cell": {"kernel": numbers(5, 8), "bias": numbers(8)}})
    assert made == {"rnn/basic_lstm_cell": {"bias": (8,), "kernel_of_input": (3, 8), "kernel_of_state": (2, 8)}}
    assert names_of("tensorflow", {"fc": {"weights": numbers(2, 3), "biases": numbers(3)}})["fc"] == {
        "kernel": (2, 3),
        "bias": (3,),
    }


def test_directions_of_a_node_and_layers_of_a_state_dict():
    node = {"n": {"W": numbers(2, 8, 3), "R": numbers(2, 8, 2), "B": numbers(2, 16)}}
    assert names_of("onnx", node)["n/backward"] == {"W": (8, 3), "R": (8, 2), "Wb": (8,), "Rb": (8,)}
    state = {"rnn": {"weight_ih_l0": numbers(4, 3), "weight_ih_l0_reverse": numbers(4, 3)}}
    assert set(names_of("torch", state)) == {"rnn/l0", "rnn/l0_reverse"}


def names_of(framework, units):
    made = grouped(source_units(source_of(framework, units)), ())
    return {unit.name: {leaf: tensor.shape for leaf, tensor in unit.leaves.items()} for unit in made}


def test_the_class_of_a_layer_tells_a_depthwise_kernel():
    source = source_of("keras", {"d": {"kernel": numbers(3, 3, 2, 1)}}, layers=[("d", "DepthwiseConv2D", {}, ())])
    (unit,) = grouped(source_units(source), ())
    assert set(unit.leaves) == {"depthwise_kernel"}
