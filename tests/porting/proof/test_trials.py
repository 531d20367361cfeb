import pytest
import torch
from torch import nn

from frostline.core.errors import AmbiguousPortError, PortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.reference import Reference, reference_of
from frostline.porting.proof.trials import prove, settle
from helpers_interpreting import floats, network

ONE, TWO = floats(3, 3), floats(3, 3, seed=1)


class Branches(nn.Module):
    def __init__(self, merge):
        super().__init__()
        self.left, self.right, self.merge = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), merge

    def forward(self, x):
        return self.merge(self.left(x), self.right(x))


def branches(kind):
    return network(
        ("x", "InputLayer", {"batch_shape": [None, 3]}, ()), ("p", "Dense", {"use_bias": False}, ("x",)),
        ("q", "Dense", {"use_bias": False}, ("x",)), ("end", kind, {}, ("p", "q")), p__kernel=ONE, q__kernel=TWO,
    )  # fmt: skip


def settled(source, model):
    plan = make_plan(source, "file", model)
    assert plan.opened
    return settle(plan, model, reference_of(source, plan, model).goldens)


def test_the_files_own_graph_tells_branches_apart():
    model = Branches(lambda one, other: other - one)
    before = model.left.weight.clone()
    plan, tried = settled(branches("Subtract"), model)
    assert {step.source.name: step.target.name for step in plan.steps} == {"p": "right", "q": "left"}
    assert {step.reason for step in plan.steps} == {"a comparison with the file's own graph"}
    assert tried == 2
    assert torch.equal(model.left.weight, before)


def test_branches_that_are_summed_may_be_exchanged():
    plan, _ = settled(branches("Add"), Branches(torch.add))
    assert "2 of them compute the same on other inputs too" in plan.notes[-1]


def test_what_only_looks_equal_on_the_samples_is_not_settled():
    model = Branches(lambda one, other: one - other)
    source = branches("Subtract")
    plan = make_plan(source, "file", model)
    zeros = torch.zeros(2, 3)
    from frostline.porting.proof.module_outputs import Golden

    with pytest.raises(AmbiguousPortError):
        settle(plan, model, [Golden(zeros, (zeros,))])
    with pytest.raises(AmbiguousPortError):
        settle(plan, model, [])


def test_no_assignment_and_no_module_that_computes_something_else_passes():
    with pytest.raises(PortError, match="The module does not compute what the source network does") as caught:
        settled(branches("Subtract"), Branches(torch.mul))
    assert "none of 2 assignments reproduces the outputs" in caught.value.received
    model, source = Branches(torch.mul), branches("Multiply")
    plan, tried = settled(source, model)
    assert prove(plan, model, Reference(source), tried) == ()
    with pytest.raises(PortError, match="The module does not compute what the source network does"):
        prove(plan, model, reference_of(source, plan, model), tried)


def probabilities(scale):
    return network(
        ("x", "InputLayer", {"batch_shape": [None, 3]}, ()), ("p", "Dense", {"use_bias": False}, ("x",)),
        ("q", "Dense", {"use_bias": False, "activation": "sigmoid"}, ("p",)),
        p__kernel=ONE, q__kernel=floats(3, 2) * scale,
    )  # fmt: skip


class Probabilities(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.one, self.two, self.factor = nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False), factor

    def forward(self, x):
        return self.two(self.one(x) * self.factor).sigmoid()


def proven(source, model):
    plan = make_plan(source, "file", model)
    carry_out(plan, model)
    return prove(plan, model, reference_of(source, plan, model), 1)


def test_a_small_difference_may_come_from_outputs_in_half_precision(tmp_path):
    from safetensors.torch import save_file

    from frostline.recipes.port import port

    model, x = nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 4)
    save_file(model.state_dict(), tmp_path / "f.safetensors")
    with pytest.raises(PortError, match="does not compute what") as caught:
        port(tmp_path / "f.safetensors", model, golden=(x, model(x).detach().bfloat16().float()))
    assert "in float32, if they were computed in half precision" in caught.value.do
    with pytest.raises(PortError, match="does not compute what") as caught:
        port(tmp_path / "f.safetensors", model, golden=(x, 2 * model(x).detach()))
    assert "half precision" not in caught.value.do


def test_outputs_that_are_all_0_or_1_hide_nothing():
    source = probabilities(1e6)
    assert proven(source, Probabilities(1.0))[0].error <= 1e-5
    with pytest.raises(PortError, match="The module does not compute what the source network does") as caught:
        proven(source, Probabilities(2.0))
    assert "the first layer that differs is 'q' (Dense) and 'two' (Linear)" in caught.value.received


def test_roundings_of_float32_are_told_from_differences():
    class Rounded(Probabilities):
        def forward(self, x):
            large = 2.0**12  # what float32 rounds away, float64 keeps
            return super().forward((x + large) - large)

    (run,) = proven(probabilities(1.0), Rounded(1.0))
    assert run.kind.endswith("the module in float64 too,")
    assert run.error <= 1e-5
