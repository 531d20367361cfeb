import torch
from torch import nn

from frostline.porting.units.forms.flax import unstacked
from frostline.porting.units.forms.module_form import grouped
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import formed, numbers, source_of


def test_dense_layers_of_a_cell_are_one_layer():
    cell = {f"cell/{part}": {"kernel": numbers(2, 2)} for part in ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho")}
    assert list(formed("flax", {"before": {"kernel": numbers(2, 2)}} | cell, nn.LSTM(2, 2))) == ["before", "cell"]
    del cell["cell/ho"]
    assert len(formed("flax", cell, nn.LSTM(2, 2))) == 7


def test_a_cell_of_nnx_calls_one_gate_otherwise_as_if_is_a_word_of_python():
    cell = {f"cell/{part}": {"kernel": numbers(2, 2)} for part in ("ii", "if_", "ig", "io", "hi", "hf", "hg", "ho")}
    found = formed("flax", cell, nn.LSTM(2, 2))
    assert list(found) == ["cell"]
    assert "if/kernel" in found["cell"]


def fused(gates, biases, states=2):
    cell = {"cell/dense_i": {"kernel": numbers(3, 2 * gates)}, "cell/dense_h": {"kernel": numbers(states, 2 * gates)}}
    for side in biases:
        cell[f"cell/dense_{side}"]["bias"] = numbers(2 * gates)
    return cell


def test_a_cell_of_nnx_has_its_gates_in_two_layers():
    assert list(formed("flax", fused(3, "i"), nn.GRU(3, 2))) == ["cell"]
    assert list(formed("flax", fused(4, "h"), nn.LSTM(3, 2))) == ["cell"]
    assert list(formed("flax", fused(1, "i"), nn.RNN(3, 2))) == ["cell"]


def test_dense_layers_of_such_names_that_are_no_cell_stay_apart():
    assert len(formed("flax", fused(1, "ih"), nn.Linear(2, 2))) == 2  # both have a bias: no `SimpleCell` has
    assert len(formed("flax", fused(3, "i", states=5), nn.Linear(2, 2))) == 2
    assert len(formed("flax", {"cell/dense_i": {"kernel": numbers(2, 2)}}, nn.Linear(2, 2))) == 1


def test_a_stack_is_taken_apart_along_its_first_axis():
    (unit,) = source_units(source_of("flax", {"block": {"kernel": numbers(3, 2, 2), "bias": numbers(3, 2)}}))
    stacked, _ = unstacked(unit)
    assert [one.name for one in stacked] == ["0/block", "1/block", "2/block"]
    assert torch.equal(stacked[2].leaves["bias"].load(), numbers(3, 2)[2])
    assert stacked[1].leaves["kernel"].name == "block/kernel[1]"
    (unit,) = source_units(source_of("keras", {"block": {"kernel": numbers(3, 2, 2), "bias": numbers(3, 2)}}))
    assert list(unstacked(unit)) == []


def test_a_stack_of_attentions_is_one_attention_for_each_layer():
    stack = {
        f"block/attention/{role}": {"kernel": numbers(3, 8, 2, 4), "bias": numbers(3, 2, 4)}
        for role in ("query", "key", "value")
    }
    stack["block/attention/out"] = {"kernel": numbers(3, 2, 4, 8), "bias": numbers(3, 8)}
    (joined,) = grouped(source_units(source_of("flax", stack)), target_units(nn.MultiheadAttention(8, 2)))
    (layers,) = unstacked(joined)
    assert [one.name for one in layers] == [f"block/{index}/attention" for index in range(3)]
    for index, one in enumerate(layers):
        assert set(one.parts) >= {"query", "key", "value"}
        kernel = one.parts["key"].leaves["kernel"]
        assert torch.equal(kernel.load(), torch.as_tensor(stack["block/attention/key"]["kernel"][index]))


def test_a_stack_may_lie_along_the_second_axis():
    unit = source_units(source_of("flax", {"block": {"kernel": numbers(4, 3, 5), "bias": numbers(5, 3)}}))[0]
    (stacked,) = unstacked(unit)
    assert [one.name for one in stacked] == ["0/block", "1/block", "2/block"]
    assert torch.equal(stacked[2].leaves["kernel"].load(), numbers(4, 3, 5)[:, 2])
    assert all(one.along_second is None for one in stacked)


def test_a_stack_whose_shapes_allow_both_axes_holds_both():
    unit = source_units(source_of("flax", {"block": {"kernel": numbers(4, 4, 5), "bias": numbers(4, 4)}}))[0]
    (stacked,) = unstacked(unit)
    assert torch.equal(stacked[1].leaves["bias"].load(), numbers(4, 4)[1])
    assert torch.equal(stacked[1].along_second.leaves["bias"].load(), numbers(4, 4)[:, 1])
