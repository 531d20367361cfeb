from torch import nn

from frostline.porting.units.forms.module_form import other_forms
from frostline.porting.units.unit import source_units
from helpers_porting import formed, numbers, source_of


def test_the_layers_of_a_layer_are_units_of_their_own():
    leaves = {"backward/kernel": numbers(2, 8), "forward/kernel": numbers(2, 8)}
    assert set(formed("keras", {"both": leaves}, nn.Linear(1, 1))) == {"both/backward", "both/forward"}
    attention = {f"{part}/kernel": numbers(2, 1, 2) for part in ("query", "key", "value", "attention_output")}
    assert set(formed("keras", {"look": attention}, nn.MultiheadAttention(2, 1))) == {"look"}
    assert len(formed("keras", {"look": attention}, nn.Linear(2, 2))) == 4


def test_a_unit_that_fits_no_layer_has_other_forms():
    (unit,) = source_units(source_of("flax", {"block": {"kernel": numbers(3, 2, 2), "bias": numbers(3, 2)}}))
    apart, stacked, _ = other_forms(unit)
    assert [one.name for one in apart] == ["block/kernel", "block/bias"]
    assert [one.name for one in stacked] == ["0/block", "1/block", "2/block"]
