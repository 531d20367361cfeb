import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.core.storage_records import StorageCosts
from frostline.recipes import course
from frostline.splitting import storage_plan
from helpers_fit import D, N, data, fit, mlp

CHEAP = StorageCosts(16, 0.0, 1e-7, 2e-7, 1e-7, 1e-9)
DEAR = StorageCosts(16, 0.0, 1.0, 2.0, 1.0, 1e-9)


@pytest.fixture
def costs(monkeypatch):
    """Sets the seconds that a machine would measure; a phase is not compared with the seconds of its split."""
    monkeypatch.setattr(course, "_SPLITS", 0.0)

    def set_to(own):
        monkeypatch.setattr(
            storage_plan, "_measured_costs", lambda candidate, size, read_s: replace(own, read_s=read_s)
        )

    return set_to


class Adapted(nn.Module):
    """A frozen body, and a frozen layer beside a trainable low-rank one: three values cross, one is enough."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Linear(D, 64), nn.GELU(), nn.Linear(64, D))
        self.query, self.value = nn.Linear(D, D), nn.Linear(D, D)
        for own in (self.body, self.query, self.value):
            own.requires_grad_(False)
        self.low, self.out = nn.Linear(D, D), nn.Linear(D, 2)

    def forward(self, x):
        h = self.body(x)
        change = F.dropout(self.low(h), 0.2, self.training)
        return self.out((self.query(h) + change) * (self.value(h) + change) + h)


def losses(result):
    return [epoch.train_loss for epoch in result.history]


def test_a_planned_run_stores_what_a_layer_input_holds_and_trains_as_without_a_cache(costs, tmp_path):
    costs(DEAR)
    options = {"epochs": 3, "batch_size": 16, "val": data(20)}
    plain = fit(Adapted(), cache=False, **options)
    frontier = fit(Adapted(), cache=tmp_path / "all", **options)
    planned = fit(Adapted(), cache="auto", out=tmp_path / "run", **options)
    assert losses(planned) == pytest.approx(losses(plain), rel=1e-6)
    assert losses(frontier) == pytest.approx(losses(plain), rel=1e-6)
    assert planned.plan.chosen.again
    assert planned.plan.chosen.bytes_per_sample == 4 * D
    (entry,) = fl.FeatureCache(tmp_path / "run" / "cache").entries()
    assert entry.tensors == ("body",)


def test_a_cache_that_saves_no_time_is_left_out_and_the_numbers_say_so(costs, tmp_path, capsys):
    costs(CHEAP)
    planned = fit(mlp(), freeze="2", epochs=2, cache="auto", out=tmp_path / "run")
    assert planned.cache is None
    assert not planned.plan.chosen.is_cached
    told = capsys.readouterr().err
    assert "cache: Plan:      train without a cache: 2 epochs of 48 samples take" in told
    assert "store the frontier" in told
    assert losses(planned) == pytest.approx(losses(fit(mlp(), freeze="2", epochs=2, cache=False)), rel=1e-6)
    assert fl.FeatureCache(tmp_path / "run" / "cache").entries() == ()


@pytest.mark.parametrize("first", [CHEAP, DEAR], ids=["uncached", "cached"])
def test_a_second_start_does_what_the_first_one_decided(costs, tmp_path, first, capsys):
    costs(first)
    options = {"epochs": 4, "cache": "auto", "out": tmp_path / "run"}
    one = fit(Adapted(), **options)
    costs(DEAR if first is CHEAP else CHEAP)
    two = fit(Adapted(), overwrite=True, **options)
    assert (one.cache is None) is (two.cache is None)
    assert losses(one) == losses(two)
    assert two.plan is None
    assert "earlier start" in capsys.readouterr().err
    if two.cache is not None:
        assert (two.cache.computed, two.cache.reused) == (0, N)


def test_a_run_of_another_length_finds_the_rows_of_the_first(costs, tmp_path):
    costs(DEAR)
    first = fit(Adapted(), epochs=4, cache="auto", out=tmp_path / "run")
    costs(StorageCosts(16, 0.0, 1e-7, 2e-7, 1e-7, 1e-9))
    more = fit(Adapted(), epochs=2, cache="auto", out=tmp_path / "run", overwrite=True)
    assert first.cache.computed == N
    assert (more.cache.computed, more.cache.reused) == (0, N)  # the rows are there: reading them is quicker


@pytest.mark.parametrize("options", [{"storage": "float16"}, {"frozen_pass": "bf16"}])
def test_rows_that_are_rounded_or_of_a_faster_pass_count_as_stored_too(costs, tmp_path, options):
    costs(DEAR)
    first = fit(Adapted(), epochs=4, cache="auto", out=tmp_path / "run", **options)
    costs(CHEAP)
    more = fit(Adapted(), epochs=2, cache="auto", out=tmp_path / "run", overwrite=True, **options)
    assert first.cache.computed == N
    assert more.cache is not None
    assert (more.cache.computed, more.cache.reused) == (0, N)


def test_a_resumed_run_goes_on_as_it_began(costs, tmp_path):
    options = {"epochs": 4, "batch_size": 16, "cache": "auto"}
    costs(DEAR)
    whole = fit(Adapted(), out=tmp_path / "whole", **options)
    out = tmp_path / "run"

    def stopping(batches):
        calls = []

        def loss(output, target):
            calls.append(1)
            if len(calls) > batches:
                raise KeyboardInterrupt
            return F.cross_entropy(output, target)

        loss.__qualname__ = "loss"
        return loss

    with pytest.raises(KeyboardInterrupt):
        fit(Adapted(), loss=stopping(9), out=out, **options)
    costs(CHEAP)  # the machine measures something else now
    again = fit(Adapted(), loss=stopping(99), out=out, resume=out, **options)
    assert losses(again) == losses(whole)
    assert again.cache.computed == 0


def test_lines_that_move_are_planned_one_by_one(costs, tmp_path):
    costs(DEAR)
    options = {"epochs": 4, "batch_size": 16, "freeze": "4", "thaw": {3: "3"}}
    planned = fit(mlp(), cache="auto", out=tmp_path / "run", **options)
    plain = fit(mlp(), cache=False, **options)
    assert losses(planned) == pytest.approx(losses(plain), rel=1e-5)
    assert [phase.cache is not None for phase in planned.phases] == [True, True]
    costs(CHEAP)
    uncached = fit(mlp(), cache="auto", out=tmp_path / "other", **options)
    assert losses(uncached) == pytest.approx(losses(plain), rel=1e-6)
    assert [phase.cache for phase in uncached.phases] == [None, None]


def test_views_are_planned_too(costs, tmp_path):
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, index):
            inputs, target = data()[index]
            return inputs + torch.randn(D), target

    costs(DEAR)
    options = {"train": Noisy(), "epochs": 4, "batch_size": 16, "views": 2}
    planned = fit(Adapted(), cache="auto", out=tmp_path / "run", **options)
    assert (planned.cache.computed, planned.cache.views) == (2 * N, 2)
    assert losses(planned) == pytest.approx(losses(fit(Adapted(), cache=False, **options)), rel=1e-6)


class Words(nn.Module):
    """A frozen layer of words, and frozen projections beside trainable ones."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed, self.mix = nn.Embedding(20, 8), nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
        self.query, self.value, self.change, self.out = (nn.Linear(8, 8) for _ in range(4))
        for own in (self.embed, self.mix, self.query, self.value):
            own.requires_grad_(False)

    def forward(self, ids, mask):
        h = self.mix(self.embed(ids))
        h = (self.query(h) + self.change(h)).tanh() * (self.value(h) + self.change(h)) + h
        return self.out((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))[:, :2]


def pad(rows):
    keys = rows[0][0].keys()
    inputs = {key: nn.utils.rnn.pad_sequence([own[key] for own, _ in rows], batch_first=True) for key in keys}
    return inputs, torch.tensor([target for _, target in rows])


def test_samples_of_differing_length_store_a_layer_input_once_too(costs, tmp_path):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 9, (N,), generator=generator).tolist()
    items = [({"ids": torch.randint(1, 20, (n,), generator=generator), "mask": torch.ones(n)}, n % 2) for n in lengths]
    costs(DEAR)
    options = {"epochs": 2, "batch_size": 8, "collate_fn": pad}
    planned = fit(Words(), items, cache="auto", out=tmp_path / "run", **options)
    plain = fit(Words(), items, cache=False, **options)
    assert losses(planned) == pytest.approx(losses(plain), rel=1e-5)
    frontier = fit(Words(), items, cache=tmp_path / "all", **options)
    assert losses(frontier) == pytest.approx(losses(plain), rel=1e-5)
    stored = {entry.tensors for entry in fl.FeatureCache(tmp_path / "run" / "cache").entries() if entry.rows}
    (names,) = stored
    assert {"query", "value"}.isdisjoint(names)
    assert {"query", "value"} <= set(fl.FeatureCache(tmp_path / "all").entries()[0].tensors)
    again = fit(Words(), items, cache="auto", out=tmp_path / "run", overwrite=True, **options)
    assert (again.cache.computed, again.cache.reused) == (0, N)
    assert losses(again) == losses(planned)


def test_a_plan_whose_head_is_not_the_model_is_told_and_the_frontier_is_stored(costs, tmp_path, monkeypatch, capsys):
    costs(DEAR)

    def refuse(self, plan):
        raise fl.SplitError(what="It differs.", where="here", received="another output", do="split again.")

    monkeypatch.setattr(fl.Split, "follow", refuse)
    planned = fit(Adapted(), epochs=2, cache="auto", out=tmp_path / "run")
    assert "the frontier is stored: It differs. another output" in capsys.readouterr().err
    assert fl.FeatureCache(tmp_path / "run" / "cache").entries()[0].tensors == ("body", "query", "value")
    again = fit(Adapted(), epochs=2, cache="auto", out=tmp_path / "run", overwrite=True)
    assert again.cache.reused == N
    assert losses(again) == losses(planned)


def test_a_full_disk_trains_without_a_cache(costs, tmp_path, monkeypatch):
    from frostline.recipes import planned_cache

    costs(DEAR)
    monkeypatch.setattr(planned_cache, "_room", lambda root: 100)
    planned = fit(Adapted(), epochs=2, cache="auto", out=tmp_path / "run")
    assert planned.cache is None
    assert len(planned.plan.over_budget) >= 2


def test_the_plan_of_a_run_is_written_as_json(costs, tmp_path):
    from frostline.core.summaries import as_json

    costs(DEAR)
    planned = fit(Adapted(), epochs=2, cache="auto", out=tmp_path / "run")
    report = json.loads(as_json(planned))
    assert report["plan"]["chosen"]["stored"] == ["body"]
    assert "points" not in report["plan"]["chosen"]
    assert {call["use"] for call in report["plan"]["calls"]} == {"stored", "computed again", "not needed"}


def test_a_dataset_of_one_batch_is_planned(costs, tmp_path):
    costs(DEAR)
    few = TensorDataset(torch.randn(3, D), torch.tensor([0, 1, 0]))
    assert fit(Adapted(), few, epochs=2, cache="auto", out=tmp_path / "run").cache.computed == 3


def test_a_line_that_moves_down_below_a_plan_trains_as_without_a_cache(costs, tmp_path):
    costs(DEAR)

    def adapted():
        model = Adapted()
        for own in (model.body, model.query, model.value):
            own.requires_grad_(True)
        fl.freeze(model, modules=[model.body, model.query, model.value])
        return model

    options = {"epochs": 4, "batch_size": 16, "thaw": {3: "body.2"}}
    planned = fit(adapted(), cache="auto", out=tmp_path / "run", **options)
    plain = fit(adapted(), cache=False, **options)
    assert losses(planned) == pytest.approx(losses(plain), rel=1e-5)
    assert len(planned.phases) == 2
    assert [entry.tensors for entry in fl.FeatureCache(tmp_path / "run" / "cache").entries() if "body" in entry.tensors]
