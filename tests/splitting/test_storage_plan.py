import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.core.storage_records import StorageCosts
from frostline.splitting import Frame, Point, storage_plan
from helpers_splitting import D, Net, has_graph, x

COSTS = StorageCosts(32, 0.0, 1e-3, 2e-3, 1e-3, 1e-9)


@pytest.fixture
def fixed_costs(monkeypatch):
    """Seconds that no machine changes."""
    monkeypatch.setattr(storage_plan, "_measured_costs", lambda candidate, size, read_s: replace(COSTS, read_s=read_s))


class Attention(nn.Module):
    """A frozen body, then a layer with low-rank updates of query and value, as LoRA makes them."""

    def __init__(self, dropout=0.0, body=None) -> None:
        super().__init__()
        self.body = body or nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))
        self.query, self.key, self.value = (nn.Linear(D, D) for _ in range(3))
        for own in (self.body, self.query, self.key, self.value):
            own.requires_grad_(False)
        self.down, self.up, self.out = nn.Linear(D, 2), nn.Linear(2, D), nn.Linear(D, 3)
        self.dropout = dropout

    def forward(self, x):
        h = self.body(x)
        change = self.up(F.dropout(self.down(h), self.dropout, self.training))
        query, value = self.query(h) + change, self.value(h) + change
        score = (query * self.key(h)).sum(-1, keepdim=True).sigmoid()
        return self.out(h + score * value)


def followed(model, example):
    """The split, its plan with room for one row of D values, and the split that follows it."""
    split = fl.split(model, example)
    plan = split.plan(1000, budget_bytes=1000 * 4 * D)
    return split, plan, split.follow(plan)


def check_equal(split, model, batch):
    """The head is the model in both modes, to the bit, with the same noise; and its gradients are."""
    trained = [own for own in model.parameters() if own.requires_grad]
    for mode in (True, False):
        model.train(mode)
        split.head.train(mode)
        features = split.extract(batch)
        results = []
        for run in (lambda features=features: split.head(*features), lambda: model(batch)):
            torch.manual_seed(3)
            output = run()
            gradients = torch.autograd.grad(output.sum(), trained, allow_unused=True)
            results.append([output, *(own for own in gradients if own is not None)])
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def test_a_low_rank_update_stores_once_what_its_layer_input_holds(fixed_costs):
    model = Attention()
    split, plan, made = followed(model, x(6))
    assert [tensor.name for tensor in split.frontier] == ["body", "query", "value", "key"]
    assert plan.chosen.again
    assert [(tensor.name, tensor.bytes_per_sample) for tensor in made.frontier] == [("body", 4 * D)]
    assert has_graph(made)
    check_equal(made, model, x(7))
    assert made.verify(x(5)).is_exact
    assert split.head(*split.extract(x(3))).shape == (3, 3)  # the first split stays as it was


def test_noise_of_the_trainable_part_between_computed_calls_is_the_same(fixed_costs):
    model = Attention(dropout=0.5)
    _, _, made = followed(model, x(6))
    assert len(made.frontier) == 1
    check_equal(made, model, x(7))


def test_running_statistics_below_and_between_stay_as_they_are(fixed_costs):
    body = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D))
    model = Attention(body=body)
    fl.freeze(model, modules=[model.body, model.query, model.key, model.value])
    model.train()
    model.query = nn.Sequential(model.query, nn.BatchNorm1d(D))
    fl.freeze(model, modules=[model.query])
    _, _, made = followed(model, x(6))
    assert len(made.frontier) == 1
    before = copy.deepcopy(model.state_dict())
    check_equal(made, model, x(7))
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())


def test_a_module_that_is_called_twice_is_computed_at_both_places(fixed_costs):
    def forward(m, x):
        h = m.low(x)
        first = m.mid(h)
        return m.high(h + first) + m.high(m.mid(first))

    model = Net(forward, mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    _, _, made = followed(model, x())
    assert [tensor.name for tensor in made.frontier] == ["low"]
    check_equal(made, model, x(7))


def test_values_that_steer_a_computed_layer_are_met_or_refused(fixed_costs):
    class Steered(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(D, D)

        def forward(self, h):
            return self.inner(h) if h.sum() < 1e6 else self.inner(h) * 2

    model = Net(lambda m, x: m.high(h := m.low(x)) + m.mid(h), mid=Steered())
    model.mid.requires_grad_(False)
    split, _, made = followed(model, x())
    assert [tensor.name for tensor in made.frontier] == ["low"]
    check_equal(made, model, x(7))
    with pytest.raises(fl.SplitError, match="another path"):
        made.extract(x(4) * 1e8 + 1e8 * torch.sign(model.low.weight.sum()))
    split.extract(x(4) * 1e8)  # stored, its path does not matter


def test_changed_weights_of_a_computed_layer_are_noticed(fixed_costs):
    model = Attention()
    _, _, made = followed(model, x(6))
    made.check_unchanged()
    made.check_weights()
    with torch.no_grad():
        model.query.weight.add_(1)
    with pytest.raises(fl.SplitError, match="changed after"):
        made.check_weights()
    with pytest.raises(fl.SplitError, match="changed after"):
        made.check_unchanged()


def test_only_the_trainable_parameters_of_the_head_train(fixed_costs):
    model = Attention()
    _, _, made = followed(model, x(6))
    trained = {name for name, own in made.head.named_parameters() if own.requires_grad}
    assert trained == {"down.weight", "down.bias", "up.weight", "up.bias", "out.weight", "out.bias"}
    assert {"query.weight", "key.weight"} < set(made.head.state_dict())


def test_alternatives_are_in_order_and_say_when_they_pay(fixed_costs):
    plan = fl.split(Attention(), x(6)).plan(1000, epochs=10, read_s=1e-3)
    totals = [own.total_s for own in plan.alternatives]
    assert totals == sorted(totals)
    uncached = next(own for own in plan.alternatives if not own.is_cached)
    assert (uncached.epoch_s, uncached.pays_after) == (pytest.approx(3.0), None)
    cached = next(own for own in plan.alternatives if own.name == "the frontier")
    assert cached.epoch_s == pytest.approx(1.0, rel=1e-2)
    assert cached.fill_s == pytest.approx(1000 * (1e-3 + 1e-3 + 2.4e-4), rel=1e-2)
    assert cached.pays_after == 2
    text = str(plan)
    assert text.startswith("Plan:      use a cache that stores less than the frontier: 10 epochs of 1,000 samples take")
    assert "pays after 2 epochs" in text
    assert "no cache: 3.0 s per epoch" in text
    (chosen,) = (line for line in text.splitlines() if "->" in line)
    assert "store body, and compute 3 calls again in every step" in chosen
    assert "and 1 more)" in chosen
    assert sum(f"{name}.linear" in chosen for name in ("query", "key", "value")) == 2  # the slowest, as measured now


def test_a_cache_that_costs_more_than_it_saves_is_left_out(fixed_costs):
    plan = fl.split(Attention(), x(6)).plan(1000, epochs=1)
    assert not plan.chosen.is_cached
    assert "train without a cache: 1 epoch of 1,000 samples takes" in str(plan)
    assert plan.best_cached is not None  # for those who want it all the same
    assert plan.best_cached.is_cached


def test_a_full_disk_leaves_what_fits(fixed_costs):
    split = fl.split(Attention(), x(6))
    small = split.plan(1000, budget_bytes=1000 * 4 * D)
    assert {own.bytes_per_sample for own in small.alternatives if own.is_cached} == {4 * D}
    assert "does not fit into 32.0 KB" in str(small)
    none = split.plan(1000, budget_bytes=0)
    assert not none.chosen.is_cached
    assert none.best_cached is None
    assert split.follow(none) is split


def test_rows_that_are_stored_already_cost_no_fill(fixed_costs):
    plan = fl.split(Attention(), x(6)).plan(1000, epochs=1, missing=0)
    assert plan.chosen.is_cached
    assert plan.chosen.fill_s == 0.0


def test_a_head_without_a_graph_computes_whole_modules_again(fixed_costs):
    class Rows(Attention):
        def forward(self, x):
            h = self.body(x)
            change = torch.stack([self.up(self.down(row)) for row in h])  # as many steps as the batch has rows
            return self.out(h + (self.query(h) + change) * (self.value(h) + change) * self.key(h))

    model = Rows()
    split, plan, made = followed(model, x(6))
    assert not has_graph(split)
    assert [tensor.name for tensor in split.frontier] == ["body", "query", "value", "key"]
    assert sorted(plan.best_cached.again) == ["key", "query", "value"]
    assert [tensor.name for tensor in made.frontier] == ["body"]
    check_equal(made, model, x(7))
    check_equal(split, model, x(7))


def test_a_module_that_every_row_calls_is_stored_and_nothing_else_can_be(fixed_costs):
    model = Net(lambda m, x: torch.stack([m.high(row) for row in m.low(x)]))
    split = fl.split(model, x(4))
    plan = split.plan(100)
    assert {own.name for own in plan.alternatives} >= {"no cache", "the frontier"}
    assert split.follow(split.plan(100, budget_bytes=100 * 4 * D)) is split


def test_costs_are_measured_and_nothing_moves():
    model = Attention(dropout=0.5)
    model.out.weight.grad = torch.ones_like(model.out.weight)
    split, state = fl.split(model, x(6)), torch.get_rng_state()
    plan = split.plan(10, batch_size=4)
    assert plan.costs.head_s > 0
    assert plan.costs.uncached_s > 0
    assert plan.costs.frozen_s > 0
    assert torch.equal(model.out.weight.grad, torch.ones_like(model.out.weight))
    assert model.down.weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)
    assert str(plan) in str(replace(split.explain(), measure=lambda: plan))


def test_what_is_no_plan_is_refused():
    split = fl.split(Attention(), x(6))
    with pytest.raises(fl.DataError, match="not a plan of what to store"):
        split.follow(None)
    with pytest.raises(fl.DataError, match="samples"):
        split.plan(0)


def test_a_plan_of_another_split_is_refused():
    split = fl.split(Attention(), x(6))
    with pytest.raises(fl.SplitError, match="has to be stored all the same"):
        split.storing(frozenset([Point(Frame("body", 0), "return", 7)]), frozenset())
    rows = fl.split(Net(lambda m, x: torch.stack([m.high(row) for row in m.low(x)])), x(4))
    with pytest.raises(fl.SplitError, match="cannot be computed in the head"):
        rows.storing(frozenset([Point(Frame("low", 0), "return", 0)]), frozenset([Frame("low", 0)]))
