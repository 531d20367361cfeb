import torch

from frostline.porting.units.forms.onnx import divide
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, source_of


def test_directions_are_units_and_halves_of_a_bias_are_tensors():
    leaves = {"W": numbers(2, 8, 3), "R": numbers(2, 8, 2), "B": numbers(2, 16)}
    ((_, backward),) = (divide(one) for one in source_units(source_of("onnx", {"n": leaves})))
    assert backward.name == "n/backward"
    shapes = {leaf: tensor.shape for leaf, tensor in backward.leaves.items()}
    assert shapes == {"W": (8, 3), "R": (8, 2), "Wb": (8,), "Rb": (8,)}
    assert torch.equal(backward.leaves["Rb"].load(), leaves["B"][1, 8:])


def test_other_nodes_stay_as_they_are():
    (unit,) = source_units(source_of("onnx", {"n": {"weight": numbers(2, 2)}}))
    assert divide(unit) == [unit]
