from torch import nn

from frostline.porting.layouts.layout import SAME, TRANSPOSED
from frostline.porting.layouts.rules import assemble
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import numbers, source_of


def pair(module, leaves):
    (unit,) = source_units(source_of("keras", {"u": leaves}))
    (target,) = target_units(nn.Sequential(module))
    return unit, target


ROWS = {"kernel": ("weight", TRANSPOSED), "bias": ("bias", SAME)}


def test_every_tensor_is_made_once():
    moves = assemble(*pair(nn.Linear(3, 2), {"kernel": numbers(3, 2), "bias": numbers(2)}), ROWS)
    assert [(move.target, move.sources) for move in moves] == [("weight", ("kernel",)), ("bias", ("bias",))]


def test_a_bias_that_the_source_leaves_out_adds_nothing():
    moves = assemble(*pair(nn.Linear(3, 2), {"kernel": numbers(3, 2)}), ROWS)
    assert moves[1].text() == "constant 0"


def test_pairs_that_cannot_be():
    linear = nn.Linear(3, 2)
    assert assemble(*pair(linear, {"kernel": numbers(2, 3)}), ROWS) is None  # a shape
    assert assemble(*pair(linear, {"kernel": numbers(3, 2), "gamma": numbers(2)}), ROWS) is None  # a leaf too many
    assert assemble(*pair(linear, {"bias": numbers(2)}), ROWS) is None  # a weight has no default
    bare = nn.Linear(3, 2, bias=False)
    assert assemble(*pair(bare, {"kernel": numbers(3, 2), "bias": numbers(2)}), ROWS) is None  # it would be lost
    assert assemble(*pair(linear, {"kernel": numbers(3, 2, 1)}), ROWS) is None  # a number of axes
