import pytest
import torch
from torch import nn

from frostline.core.errors import AmbiguousPortError
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.module_outputs import Golden
from frostline.porting.proof.trials import settle
from helpers_porting import numbers, source_of

UNITS = {"u": {"weight": numbers(8, 8)}, "w": {"weight": numbers(8, 8, seed=3)}}


class Residual(nn.Module):
    """A branch that is multiplied by next to nothing, as networks with LayerScale begin."""

    def __init__(self, scale):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.scale = scale

    def forward(self, x):
        return x + self.scale * self.two(self.one(x).relu())


class Summed(Residual):
    def forward(self, x):
        return self.one(x) + self.two(x)


def settled(model):
    model.eval()
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    model.one.weight.data, model.two.weight.data = UNITS["u"]["weight"].clone(), UNITS["w"]["weight"].clone()
    golden = Golden(x, (model(x).detach(),))
    return settle(make_plan(source_of("torch", UNITS), "file", model), model, [golden])[0]


@pytest.mark.parametrize("scale", [1e-8, 1e-14])
def test_layers_whose_outputs_nothing_shows_are_not_equal(scale):
    with pytest.raises(AmbiguousPortError):
        settled(Residual(scale))


def test_outputs_tell_layers_apart_that_they_show():
    assert {step.source.name: step.target.name for step in settled(Residual(1.0)).steps} == {"u": "one", "w": "two"}


def test_twins_that_are_summed_are_equal():
    assert "they exchange equal branches" in settled(Summed(1.0)).notes[-1]
