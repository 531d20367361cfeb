from dataclasses import replace

import pytest
import torch
from torch import nn

from frostline.core.errors import AmbiguousPortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof import search
from frostline.porting.proof.module_outputs import Golden, nearest, outputs_of
from frostline.porting.proof.trials import settle
from helpers_interpreting import floats
from helpers_porting import source_of

DEPTH = 4  # blocks of two layers: 40,320 assignments


class Chain(nn.Module):
    """Blocks of two equal layers, whose names tell nothing."""

    def __init__(self, is_summed=False):
        super().__init__()
        self.first, self.second = (nn.ModuleList([nn.Linear(3, 3) for _ in range(DEPTH)]) for _ in range(2))
        self.is_summed = is_summed

    def forward(self, x):
        for one, other in zip(self.first, self.second, strict=True):
            x = x + (one(x) + other(x) if self.is_summed else other(one(x).tanh()))
        return x


def case(model):
    """A file in another order than the module's, and what its network gives."""
    units = {}
    with torch.no_grad():
        for at, layer in enumerate([*model.first, *model.second]):
            weight, bias = floats(3, 3, seed=at), floats(3, seed=at)
            layer.weight.copy_(weight.T)
            layer.bias.copy_(bias)
            units["hdbgafce"[at]] = {"kernel": weight, "bias": bias}
    inputs = floats(8, 3, seed=99)
    golden = Golden(inputs, tuple(outputs_of(model, inputs)))
    nn.init.zeros_(model.first[0].weight)
    return source_of("keras", dict(sorted(units.items()))), golden


@pytest.mark.parametrize("is_summed", [False, True])
def test_more_assignments_than_can_be_tried_are_searched(is_summed):
    model = Chain(is_summed)
    source, golden = case(model)
    plan = make_plan(source, "file", model)
    assert not search.is_few(plan)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told, tried = settle(plan, model, [golden])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    carry_out(told, model)
    assert nearest(model, [golden])[0] < 1e-5
    assert 0 < tried < 4_000
    assert {step.reason for step in told.steps} == {"golden outputs, found by search"}
    assert "28 single exchanges from the one that was found" in told.notes[-1]
    assert ("; 4 of these compute the same" in told.notes[-1]) is is_summed


def test_a_search_that_finds_nothing_is_an_ambiguity(monkeypatch):
    monkeypatch.setattr(search, "_MOST_RUNS", 100)
    model = Chain()
    source, golden = case(model)
    wrong = Golden(golden.inputs, (golden.outputs[0] + 1,))
    before = model.first[0].bias.clone()
    with pytest.raises(AmbiguousPortError) as caught:
        settle(make_plan(source, "file", model), model, [wrong])
    assert "assignments that were run, none reproduces the outputs" in caught.value.do
    assert "pair the layers of one block with `hints`" in caught.value.do
    assert torch.equal(model.first[0].bias, before)


def test_an_exchange_that_only_looks_equal_on_the_samples_is_an_ambiguity():
    model = Chain()
    source, _golden = case(model)
    for layer in (*model.first, *model.second):
        nn.init.zeros_(layer.bias)
    for unit in source.tensors:
        if unit.leaf == "bias":
            object.__setattr__(unit, "load", lambda: torch.zeros(3))
    zeros = torch.zeros(2, 3)
    with pytest.raises(AmbiguousPortError) as caught:
        settle(make_plan(source, "file", model), model, [Golden(zeros, (zeros,))])
    assert "more than one assignment reproduces the outputs that were passed" in caught.value.do


def test_assignments_out_of_the_order_of_the_file_are_tried_last():
    model = Chain()
    source, _golden = case(model)
    plan = make_plan(replace(source, order="graph"), "file", model)
    assert any(group.before for group in plan.opened)
    assert not any(group.before for group in search.without_order(plan).opened)
    assert search.without_order(search.without_order(plan)) is None


def test_a_network_that_computes_for_long_is_run_less_often(monkeypatch):
    model = Chain()
    source, golden = case(model)
    plan = make_plan(source, "file", model)
    assert search.num_runs(plan, model, [golden]) == 4_000
    monkeypatch.setattr(search, "_MOST_WORK", 2e8)
    most = search.num_runs(plan, model, [golden])
    assert 24 <= most < 60
    assert search.num_runs(plan, model, [golden, Golden(golden.inputs.clone(), golden.outputs)]) == 24
    wrong = Golden(golden.inputs, (golden.outputs[0] + 1,))
    with pytest.raises(AmbiguousPortError) as caught:
        settle(plan, model, [wrong])
    assert f"a network of this size is run {most} times at most" in caught.value.received
    assert "for fewer or smaller inputs" in caught.value.do
    monkeypatch.setattr(search, "_MOST_WORK", 1)
    with pytest.raises(AmbiguousPortError, match="28 exchanges of two layers would have to be run"):
        settle(plan, model, [golden])


def test_assignments_that_are_too_many_to_run_all_are_searched():
    model = Chain()
    source, _golden = case(model)
    plan = make_plan(source, "file", model)
    assert search.is_few(replace(plan, opened=()), 1)
    assert not search.is_few(plan, 24)
