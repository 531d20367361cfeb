import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from frostline.core.errors import PortError
from frostline.porting.layouts.layout import Move
from frostline.porting.plan.execution import carry_out, digest_of, remember, value_of, written_digests
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.units.unit import full_name, target_units
from helpers_porting import numbers, source_of


def plan_for(module, **leaves):
    return make_plan(source_of("keras", {"u": leaves}), "file", nn.Sequential(module))


def make_values(plan):
    return {
        full_name(step.target, move.target): value_of(plan, step, move) for step in plan.steps for move in step.moves
    }


def test_values_are_written_and_what_was_there_comes_back():
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    undo = carry_out(plan_for(layer, kernel=numbers(3, 2)), layer)
    assert torch.equal(layer.weight, numbers(3, 2).T)
    undo()
    assert torch.equal(layer.weight, before)


def test_values_that_are_no_numbers_are_refused():
    broken = numbers(3, 2)
    broken[0, 0] = float("nan")
    with pytest.raises(PortError, match="NaN, infinite, or a negative variance"):
        make_values(plan_for(nn.Linear(3, 2), kernel=broken))
    with pytest.raises(PortError, match="negative variance"):
        make_values(plan_for(nn.BatchNorm1d(2), moving_mean=numbers(2), moving_variance=-numbers(2)))


def test_values_beyond_the_dtype_of_the_module_are_refused():
    with pytest.raises(PortError, match="do not fit into float16"):
        make_values(plan_for(nn.Linear(3, 2).half(), kernel=numbers(3, 2) * 1e6))


def test_a_layout_that_loses_bytes_is_noticed(monkeypatch):
    plan = plan_for(nn.Linear(3, 2), kernel=numbers(3, 2))
    move = plan.steps[0].moves[0]
    monkeypatch.setattr(type(move), "inverse", lambda self, value, parts: tuple(part + 1 for part in parts))
    with pytest.raises(PortError, match="inverse of a layout does not reproduce"):
        make_values(plan)


def test_the_bytes_of_every_dtype_come_back_to_the_bit(monkeypatch):
    inner = Move.inverse
    monkeypatch.setattr(Move, "inverse", lambda self, value, parts: tuple(-part for part in inner(self, value, parts)))
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128):
        zeros = torch.zeros(3, 1, dtype=dtype)  # -0.0 equals 0.0, and has other bits
        with pytest.raises(PortError, match="inverse of a layout does not reproduce"):
            make_values(plan_for(nn.Linear(3, 1, bias=False, dtype=dtype), kernel=zeros))
    monkeypatch.setattr(Move, "inverse", inner)
    made = make_values(plan_for(nn.Linear(3, 1, bias=False), kernel=numbers(3, 1)))
    assert torch.equal(made["0.weight"], numbers(3, 1).T)


def test_a_digest_is_of_bytes():
    assert digest_of(torch.tensor(0.0)) != digest_of(torch.tensor(-0.0))
    assert digest_of(numbers(2, 3).T) == digest_of(numbers(2, 3).T.contiguous())


class Negated(nn.Module):
    def forward(self, x):
        return -x

    def right_inverse(self, x):
        return -x


def test_digests_of_all_that_is_held_are_those_of_each(monkeypatch):
    monkeypatch.setattr("frostline.porting.plan.execution._LARGE_BYTES", 100)
    parametrized = nn.Linear(30, 20)
    parametrize.register_parametrization(parametrized, "weight", Negated())
    for layer in (nn.Linear(30, 20), parametrized):
        plan = plan_for(layer, kernel=numbers(30, 20), bias=numbers(20))
        carry_out(plan, layer)
        wanted = {f"0.{own}": digest_of(getattr(layer, own)) for own in ("weight", "bias")}
        assert written_digests(plan) == wanted


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, x):
        return x.triu()


def test_a_weight_norm_holds_what_is_written_and_a_symmetric_weight_may_not():
    kernel = numbers(3, 2)
    normed = parametrizations.weight_norm(nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in normed.state_dict().items()}
    undo = carry_out(plan_for(normed, kernel=kernel), normed)
    assert torch.allclose(normed.weight, kernel.T)
    undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in normed.state_dict().items())
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    plan = plan_for(layer, kernel=numbers(3, 3), bias=numbers(3))
    with pytest.raises(PortError, match="The parametrization of a layer changes the weight"):
        carry_out(plan, layer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_what_layers_held_comes_back():
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    undo = remember(target_units(nn.Sequential(layer)))
    carry_out(plan_for(layer, kernel=numbers(3, 2)), layer)
    undo()
    assert torch.equal(layer.weight, before)


def test_imaginary_parts_are_not_cut_off():
    with pytest.raises(PortError, match="do not fit into float32") as caught:
        make_values(plan_for(nn.Linear(3, 2), kernel=torch.full((3, 2), 1j)))
    assert caught.value.received == "6 of 6 values, such as 0+1j"
    variance = torch.tensor([1 + 1j, 2 + 0j])
    with pytest.raises(PortError, match="do not fit into float32"):
        make_values(plan_for(nn.BatchNorm1d(2), moving_mean=numbers(2), moving_variance=variance))


def test_whole_numbers_that_are_cut_and_variances_that_become_zero_are_refused():
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(2, dtype=torch.int8))

    for value in (300.0, -2.7):
        with pytest.raises(PortError, match="do not fit into int8") as caught:
            make_values(plan_for(Held(), table=torch.tensor([1.0, value])))
        assert f"1 of 2 values, such as {value:g}" in caught.value.received
    norm = nn.BatchNorm1d(2, affine=False).half()
    with pytest.raises(PortError, match="do not fit into float16"):
        make_values(plan_for(norm, moving_mean=numbers(2), moving_variance=torch.tensor([1.0, 1e-9])))


def test_an_expanded_tensor_cannot_be_written():
    layer = nn.Linear(3, 2, bias=False)
    layer.weight = nn.Parameter(torch.zeros(1, 3).expand(2, 3))
    with pytest.raises(PortError, match="expanded tensor, whose elements share memory"):
        make_values(plan_for(layer, kernel=numbers(3, 2)))
    with pytest.raises(PortError, match="expanded tensor, whose elements share memory"):
        carry_out(plan_for(layer, kernel=numbers(3, 2)), layer)
    remember(target_units(nn.Sequential(layer)))()
    assert torch.equal(layer.weight, torch.zeros(2, 3))


def test_whichever_tensor_is_refused_the_module_stays_as_it_was_to_the_bit():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].weight = nn.Parameter(torch.full((2, 4), -0.0))
    units = {
        "a": {"kernel": numbers(3, 4), "bias": numbers(4)},
        "b": {leaf: numbers(4).abs() for leaf in ("gamma", "beta", "moving_mean", "moving_variance")},
        "c": {"kernel": numbers(4, 2), "bias": numbers(2)},
    }
    view, before = model[0].weight.data[0], {name: one.clone() for name, one in model.state_dict().items()}
    for unit, leaves in units.items():
        for leaf, value in leaves.items():
            broken = {**units, unit: {**leaves, leaf: torch.full_like(value, float("inf"))}}
            with pytest.raises(PortError, match="NaN, infinite"):
                carry_out(make_plan(source_of("keras", broken), "file", model), model)
            now = model.state_dict()
            assert all(torch.equal(now[name].view(-1).view(torch.uint8), one.view(-1).view(torch.uint8))
                       for name, one in before.items() if one.ndim), (unit, leaf)  # fmt: skip
    carry_out(make_plan(source_of("keras", units), "file", model), model)
    assert torch.equal(view, numbers(3, 4).T[0])  # a view of the parameter's memory sees the new values
