from torch import nn

from frostline.porting.layouts.choice import moves
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import numbers, source_of


class Token(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(numbers(1, 3))


def test_a_parameter_of_no_known_layer_is_taken_as_it_is():
    (target,) = target_units(Token())
    (unit,) = source_units(source_of("flax", {"cls": {"cls": numbers(1, 3)}}))
    assert moves(unit, target)[0].text() == "as it is"
    (other,) = source_units(source_of("flax", {"cls": {"cls": numbers(3)}}))
    assert moves(other, target) is None


def test_the_layouts_are_those_of_the_framework():
    (target,) = target_units(nn.Sequential(nn.Linear(3, 3, bias=False)))
    (keras,) = source_units(source_of("keras", {"u": {"kernel": numbers(3, 3)}}))
    (torch,) = source_units(source_of("torch", {"u": {"weight": numbers(3, 3)}}))
    assert moves(keras, target)[0].text() == "(in, out) to (out, in)"
    assert moves(torch, target)[0].text() == "as it is"
