import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.execution import digest_of, exchange, make_values
from frostline.porting.plan import make_plan
from helpers_porting import numbers, source_of


def plan_for(module, **leaves):
    return make_plan(source_of("keras", {"u": leaves}), "file", nn.Sequential(module))


def test_values_are_exchanged_and_come_back():
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    plan = plan_for(layer, kernel=numbers(3, 2))
    values = make_values(plan)
    exchange(plan, values)
    assert torch.equal(layer.weight, numbers(3, 2).T)
    exchange(plan, values)
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
    with pytest.raises(PortError, match="the source's bytes do not come back"):
        make_values(plan)


def test_a_digest_is_of_bytes():
    assert digest_of([torch.tensor(0.0)]) != digest_of([torch.tensor(-0.0)])
    assert digest_of([numbers(2, 3).T]) == digest_of([numbers(2, 3).T.contiguous()])
