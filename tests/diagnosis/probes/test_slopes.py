import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.probes.slopes import facts_of_slopes
from helpers_health import CLASSES, FEATURES, task


class Halved(torch.autograd.Function):
    """Its backward gives half of the slope."""

    @staticmethod
    def forward(ctx, value):
        ctx.save_for_backward(value)
        return value.square()

    @staticmethod
    def backward(ctx, gradient):
        (value,) = ctx.saved_tensors
        return gradient * value


class Squares(nn.Module):
    def forward(self, value):
        return Halved.apply(value)


def found(*layers, start=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 8), *layers, nn.Linear(8, CLASSES))
    return facts_of_slopes(model, start or {}, task(1)[0], F.cross_entropy)


def test_a_wrong_backward_shows_in_its_function_and_in_the_layers_below():
    facts = found(Squares())
    assert [one.name for one in facts.functions] == ["Halved"]
    assert [name for name, _ in facts.cut] == ["0"]
    assert facts.asked == 3  # the function and two layers


def test_weights_that_have_run_away_are_asked_as_they_were():
    start = {"0.weight": torch.randn(8, FEATURES)}
    assert found(nn.ReLU(), start=start).cut == ()


class Beside(nn.Module):
    def __init__(self, *, is_cut):
        super().__init__()
        self.inner, self.is_cut = nn.Linear(8, 8), is_cut

    def forward(self, value):
        return self.inner(value.detach() if self.is_cut else value).tanh() + 0.1 * value


def test_one_of_two_ways_that_is_cut():
    assert found(Beside(is_cut=False), nn.ReLU()).cut == ()
    ((name, share),) = found(Beside(is_cut=True), nn.ReLU()).cut
    assert name == "0"
    assert not 0.8 < share < 1.25


def test_a_model_that_takes_no_double_precision_is_not_asked():
    class Single(nn.Module):
        def forward(self, value):
            return value @ torch.eye(8)

    facts = found(Single())
    assert facts.asked == 0
    assert facts.cut == ()
