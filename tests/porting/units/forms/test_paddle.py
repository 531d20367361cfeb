import pytest
import torch

from frostline.porting.units.forms.paddle import renamed
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, source_of


def unit_of(framework="paddle", **leaves):
    (unit,) = source_units(source_of(framework, {"u": leaves}))
    return unit


def shapes(unit):
    return {leaf: tensor.shape for leaf, tensor in renamed(unit).leaves.items()}


def test_a_length_has_an_axis_for_each_of_its_weight():
    assert shapes(unit_of(weight_g=numbers(4), weight_v=numbers(4, 4, 3)))["weight_g"] == (4, 1, 1)
    assert shapes(unit_of(weight_g=numbers(3), weight_v=numbers(4, 4, 3)))["weight_g"] == (1, 1, 3)
    assert shapes(unit_of(weight_g=numbers(), weight_v=numbers(4, 4, 3)))["weight_g"] == ()


def test_a_matrix_under_a_norm_is_turned_with_its_length():
    unit = renamed(unit_of(weight_g=numbers(2), weight_v=numbers(3, 2), bias=numbers(2)))
    assert {leaf: one.shape for leaf, one in unit.leaves.items()} == {
        "weight_g": (2, 1), "weight_v": (2, 3), "bias": (2,),
    }  # fmt: skip
    assert torch.equal(unit.leaves["weight_v"].load(), numbers(3, 2).T)
    assert torch.equal(unit.leaves["weight_g"].load(), numbers(2)[:, None])
    spectral = unit_of(weight_orig=numbers(3, 2), weight_u=numbers(2), weight_v=numbers(3))
    assert shapes(spectral) == {"weight_orig": (2, 3), "weight_u": (2,), "weight_v": (3,)}


@pytest.mark.parametrize(
    ("framework", "leaves"),
    [("torch", {"weight_g": numbers(4), "weight_v": numbers(4, 3)}), ("paddle", {"weight": numbers(4, 3)}),
     ("paddle", {"weight_v": numbers(4, 3)})],
)  # fmt: skip
def test_other_layers_stay_as_they_are(framework, leaves):
    unit = unit_of(framework, **leaves)
    assert renamed(unit) is unit
