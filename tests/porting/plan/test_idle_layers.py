import pytest
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.assignment.matching import Ambiguity
from frostline.porting.plan.idle_layers import in_excess, note, remedy
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of


class Residual(nn.Module):
    """The last block computes a value that nothing takes, as a WaveNet does."""

    def __init__(self, size=4):
        super().__init__()
        self.res = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.skip = nn.ModuleList(nn.Linear(4, 3) for _ in range(2))
        self.unused = nn.Linear(4, size)

    def forward(self, x):
        first = self.res[0](x)
        self.res[1](first)
        self.unused(first)
        return self.skip[0](x) + self.skip[1](first)


def source(**kernels):
    units = {name: {"kernel": numbers(*shape), "bias": numbers(shape[1])} for name, shape in kernels.items()}
    order = {"res_0": (), "skip_0": (), "skip_1": ("res_0",)}
    return source_of("keras", units, order="graph", layers=[(name, "Dense", {}, order[name]) for name in units])


SOURCE = source(res_0=(4, 4), skip_0=(4, 3), skip_1=(4, 3))


def test_layers_that_no_output_depends_on_are_named_as_the_cause():
    with pytest.raises(PortError, match="different numbers of layers") as caught:
        make_plan(SOURCE, "file", Residual())
    assert "the outputs of the module do not depend on 'res.1', 'unused'" in caught.value.received
    assert caught.value.do.startswith("remove 'res.1', 'unused' from the module")


def test_a_layer_of_another_shape_that_no_output_depends_on_is_named_too():
    with pytest.raises(PortError, match="no partner") as caught:
        make_plan(SOURCE, "file", Residual(7))
    assert "the outputs of the module do not depend on 'unused'" in caught.value.received


def test_a_partial_port_keeps_the_values_of_these_layers():
    made = make_plan(SOURCE, "file", Residual(), partial=True)
    pairs = {step.source.name: step.target.name for step in made.steps}
    assert pairs["res_0"] == "res.0"
    assert set(made.kept) == {"res.1", "unused"}


def test_layers_whose_values_reach_the_outputs_stay():
    class Used(Residual):
        def forward(self, x):
            first = self.res[0](x)
            return self.skip[0](x) + self.skip[1](self.unused(self.res[1](first)))

    with pytest.raises(PortError, match="different numbers of layers") as caught:
        make_plan(SOURCE, "file", Used())
    assert "do not depend" not in caught.value.received


def test_only_as_many_are_left_out_as_there_are_too_many():
    group = Ambiguity(("a",), ("x", "y"), "")
    assert in_excess([group], {"y"}) == {"y"}
    assert in_excess([group], {"x", "y"}) == set()
    assert in_excess([group], {"z"}) == set()


def test_the_texts():
    assert note(["a"], {"b"}) == ""
    assert note(list("abcde"), set("abcde")) == "; the outputs of the module do not depend on 'a', 'b', 'c' and 2 more"
    assert remedy({"b", "a"}).startswith("remove 'a', 'b' from")
