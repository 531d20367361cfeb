from dataclasses import replace

import pytest
import torch
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
    (other,) = source_units(source_of("flax", {"cls": {"cls": numbers(4)}}))
    assert moves(other, target) is None


@pytest.mark.parametrize(("framework", "shape"), [("keras", (3,)), ("flax", (1, 1, 3)), ("torch", (3, 1))])
def test_axes_of_length_one_are_set_as_in_the_module(framework, shape):
    (target,) = target_units(Token())
    (unit,) = source_units(source_of(framework, {"scale": {"gamma": numbers(*shape)}}))
    (move,) = moves(unit, target)
    assert move.text() == "axes of length 1 set as in the module"
    assert torch.equal(move.forward((numbers(*shape),), numbers(1, 3)), numbers(*shape).reshape(1, 3))


def test_the_layouts_are_those_of_the_framework():
    (target,) = target_units(nn.Sequential(nn.Linear(3, 3, bias=False)))
    (keras,) = source_units(source_of("keras", {"u": {"kernel": numbers(3, 3)}}))
    (own,) = source_units(source_of("torch", {"u": {"weight": numbers(3, 3)}}))
    assert moves(keras, target)[0].text() == "(in, out) to (out, in)"
    assert moves(own, target)[0].text() == "as it is"


@pytest.mark.parametrize("framework", ["keras", "flax", "torch", "onnx", "paddle", "mxnet", "numpy"])
def test_of_a_layer_whose_weight_is_shared_the_bias_alone_is_assigned(framework):
    (target,) = target_units(nn.Sequential(nn.Linear(3, 5)))
    rest = replace(target, tensors={"bias": target.tensors["bias"]})
    (dense,) = source_units(source_of(framework, {"u": {"kernel": numbers(3, 5), "bias": numbers(5)}}))
    assert moves(dense, rest) is None
    (bias,) = source_units(source_of(framework, {"u": {"bias": numbers(5)}}))
    assert [move.target for move in moves(bias, rest)] == ["bias"]
