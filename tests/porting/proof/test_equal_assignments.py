import pytest
import torch
from torch import nn

from frostline.core.errors import AmbiguousPortError
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof import search
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
    units = {**UNITS, **({"gate": dict(model.gate.state_dict())} if hasattr(model, "gate") else {})}
    return settle(make_plan(source_of("torch", units), "file", model), model, [golden])[0]


@pytest.mark.parametrize("scale", [1e-8, 1e-14])
def test_layers_whose_outputs_nothing_shows_are_not_equal(scale):
    with pytest.raises(AmbiguousPortError):
        settled(Residual(scale))


def test_outputs_tell_layers_apart_that_they_show():
    assert {step.source.name: step.target.name for step in settled(Residual(1.0)).steps} == {"u": "one", "w": "two"}


def test_twins_that_are_summed_are_equal():
    assert "they exchange equal branches" in settled(Summed(1.0)).notes[-1]


class Gated(nn.Module):
    """A residual branch behind a factor, which is zero in networks that begin as the identity."""

    def __init__(self, gate, is_summed=False):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.gate, self.is_summed = nn.LayerNorm(8), is_summed
        nn.init.constant_(self.gate.weight, gate)

    def forward(self, x):
        branch = self.one(x) + self.two(x) if self.is_summed else self.two(self.one(x).relu())
        return x + self.gate(branch)


class Dead(Residual):
    """Units that are never above zero on any sample."""

    def forward(self, x):
        return x + (self.one(x) + 2 * self.two(x) - 1e6).relu()


class Unused(Residual):
    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize(
    "model", [Gated(0.0), Residual(0.0), Dead(1.0), Unused(1.0)], ids=lambda one: type(one).__name__
)
def test_layers_on_which_the_outputs_do_not_depend_are_an_ambiguity(model):
    with pytest.raises(AmbiguousPortError) as caught:
        settled(model)
    assert "the compared outputs do not depend on one, two" in caught.value.received
    assert caught.value.do.startswith("assign the layers with hints={'u': 'one', ...}; or pass outputs that depend on")
    assert {"u": "two", "w": "one"} in caught.value.alternatives


def test_a_factor_that_is_not_zero_tells_the_same_layers_apart():
    told = {step.source.name: step.target.name for step in settled(Gated(1.0)).steps}
    assert told == {"u": "one", "w": "two", "gate": "gate"}


def test_twins_behind_a_factor_of_zero_are_equal_all_the_same():
    assert "exchange equal branches" in settled(Gated(0.0, is_summed=True)).notes[-1]


def test_layers_of_equal_weights_are_equal_although_nothing_shows_them():
    same = {name: {"weight": torch.zeros(8, 8)} for name in UNITS}
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    model = Residual(0.0)
    plan = settle(make_plan(source_of("torch", same), "file", model), model, [Golden(x, (x,))])[0]
    assert len(plan.steps) == 2


def test_a_search_refuses_what_the_outputs_do_not_show(monkeypatch):
    monkeypatch.setattr(search, "MOST_TRIALS", 1)
    with pytest.raises(AmbiguousPortError, match="do not depend on one, two"):
        settled(Gated(0.0))
    assert "decided by a search" in settled(Gated(1.0)).notes[-1]
