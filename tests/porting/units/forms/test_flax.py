import torch
from torch import nn

from frostline.porting.units.forms.flax import unstacked
from frostline.porting.units.unit import source_units
from helpers_porting import formed, numbers, source_of


def test_dense_layers_of_a_cell_are_one_layer():
    cell = {f"cell/{part}": {"kernel": numbers(2, 2)} for part in ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho")}
    assert list(formed("flax", {"before": {"kernel": numbers(2, 2)}} | cell, nn.LSTM(2, 2))) == ["before", "cell"]
    del cell["cell/ho"]
    assert len(formed("flax", cell, nn.LSTM(2, 2))) == 7


def test_a_stack_is_taken_apart_along_its_first_axis():
    (unit,) = source_units(source_of("flax", {"block": {"kernel": numbers(3, 2, 2), "bias": numbers(3, 2)}}))
    (stacked,) = unstacked(unit)
    assert [one.name for one in stacked] == ["0/block", "1/block", "2/block"]
    assert torch.equal(stacked[2].leaves["bias"].load(), numbers(3, 2)[2])
    assert stacked[1].leaves["kernel"].name == "block/kernel[1]"
    (unit,) = source_units(source_of("keras", {"block": {"kernel": numbers(3, 2, 2), "bias": numbers(3, 2)}}))
    assert list(unstacked(unit)) == []
