import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.probes.function_slopes import function_slopes
from helpers_health import CLASSES, FEATURES, task


class Square(torch.autograd.Function):
    factor = 2.0

    @staticmethod
    def forward(ctx, value):
        ctx.save_for_backward(value)
        return value.square()

    @classmethod
    def backward(cls, ctx, gradient):
        (value,) = ctx.saved_tensors
        return 2.0 * gradient * value


class Wrong(Square):
    @staticmethod
    def backward(ctx, gradient):
        (value,) = ctx.saved_tensors
        return gradient * value


class Newer(torch.autograd.Function):
    """In the style that has a context of its own."""

    @staticmethod
    def forward(value, weight):
        return value * weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        value, weight = ctx.saved_tensors
        return gradient * value, gradient * weight  # exchanged


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return (value * 3).round() / 3

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.apply_ = function.apply

    def forward(self, value):
        return self.apply_(value)


def found(*layers):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 8), *layers, nn.Linear(8, CLASSES))
    return function_slopes(model, task(1)[0], F.cross_entropy)


@pytest.mark.parametrize("function", [Square, Rounded, Reversed])
def test_right_ones_and_those_that_are_so_on_purpose_are_left_out(function):
    assert found(Applied(function)) == ((), 1)


def test_a_wrong_backward_is_named_with_its_layer():
    before = Wrong.__dict__.get("forward")
    ((one,), _) = found(Applied(Wrong))
    assert (one.name, one.layer) == ("Wrong", "1")
    assert one.given == pytest.approx(0.5 * one.measured, rel=1e-3)
    assert Wrong.__dict__.get("forward") is before


def test_a_function_of_two_inputs_in_the_newer_style():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(8))

        def forward(self, value):
            return Newer.apply(value, self.weight.expand_as(value))

    ((one,), count) = found(Scaled())
    assert count == 1
    assert one.name == "Newer"


def test_functions_that_the_model_does_not_call_are_not_asked():
    assert found(nn.ReLU()) == ((), 0)
