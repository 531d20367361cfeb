import pytest
import torch
from torch import nn

from frostline.porting.layouts import rotary
from frostline.porting.readers.gguf import leaf_of
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import numbers, source_of


def pair(num_heads=2, rows=8, module=None):
    units = {"attn_q": {leaf_of("weight", num_heads): numbers(rows, 3)}}
    (unit,), (target,) = (
        source_units(source_of("gguf", units)),
        target_units(nn.Sequential(module or nn.Linear(3, rows, bias=False))),
    )
    return unit, target


def test_rows_of_a_head_are_taken_apart_into_halves_and_back():
    layout = rotary.halves(2, 8)
    rows = torch.arange(8.0)
    assert layout.forward(rows).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert torch.equal(layout.inverse(layout.forward(rows)), rows)


@pytest.mark.parametrize(("num_heads", "rows"), [(0, 8), (3, 8), (8, 8)])
def test_heads_without_pairs_have_no_halves(num_heads, rows):
    assert rotary.halves(num_heads, rows) is None


@pytest.mark.parametrize(
    ("order", "text"), [(rotary.NEIGHBOURS, "as it is"), (rotary.HALVES, "halves of a head (2 heads)")]
)
def test_a_query_becomes_a_linear_layer_in_either_order(order, text):
    unit, target = pair()
    assert rotary.is_paired(unit)
    (move,) = rotary.moves(unit, target, order)
    assert text in move.text()


def test_what_has_no_such_rows_fits_nothing():
    assert rotary.moves(*pair(num_heads=3), rotary.HALVES) is None
    assert rotary.moves(*pair(module=nn.Conv1d(3, 8, 1, bias=False))) is None
    assert not rotary.is_paired(source_units(source_of("torch", {"a": {"weight": numbers(2, 2)}}))[0])
