"""A fill on a real Ray cluster of two workers on this machine."""

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import TensorDataset

import frostline as fl
import helpers_ray
from frostline.caching import builders_of, viewed
from frostline.caching.fill import ray_ranges
from frostline.caching.fill.builders import Alone
from frostline.caching.fill.planned_fill import fill_as_planned
from frostline.caching.fill.ray_builders import Builder, Order, RayBuilders, told
from frostline.core.tolerances import batch_tolerance, relative_difference

TESTS = str(Path(helpers_ray.__file__).parent)


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="pip install ray, which has no wheel for every Python")
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": TESTS, "RAY_AUTH_MODE": "disabled", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
                   "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False,
             logging_level="error", _node_ip_address="127.0.0.1")  # fmt: skip
    yield ray
    ray.shutdown()
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def split_of(inputs: torch.Tensor):
    torch.manual_seed(0)
    model = helpers_ray.Net()
    fl.freeze(model, through="one")
    return fl.split(model, inputs[:4])


@pytest.mark.filterwarnings("default")  # of Ray's own
def test_two_workers_fill_a_cache_and_one_that_is_killed_loses_nothing(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_ranges, "_START_S", 600.0)  # a busy machine starts actors slowly
    dataset = helpers_ray.Items(tmp_path, 320, deadly=100)
    split, cache = split_of(dataset.inputs), fl.FeatureCache(tmp_path / "features", engine="ray")
    data = cache.fill(split, dataset, progress=False)
    assert (tmp_path / "killed").exists()
    assert len(list(tmp_path.glob("*.txt"))) >= 2
    assert [note for note in data.notes if "a builder died" in note]
    features, targets = next(iter(data.loader(320)))
    torch.testing.assert_close(features[0], split.extract(dataset.inputs)[0])
    assert targets.tolist() == [index % 3 for index in range(320)]
    again = cache.fill(split, dataset, progress=False, engine="local")
    assert (again.figures.computed, again.figures.reused) == (0, 320)
    assert cache.verify() == ()

    dataset.lock = threading.Lock()
    with pytest.raises(fl.DataError, match="cannot be sent") as caught:
        cache.fill(split, dataset, progress=False)
    assert "lock" in caught.value.received


def test_without_ray_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    dataset = helpers_ray.Items(tmp_path, 8)
    with pytest.raises(fl.DataError, match="Ray is not installed") as caught:
        fl.FeatureCache(tmp_path).fill(split_of(dataset.inputs), dataset, engine="ray", progress=False)
    assert "frostline[ray]" in caught.value.do


def test_an_engine_that_is_none_is_refused(tmp_path):
    with pytest.raises(fl.DataError, match="no such engine"):
        fl.FeatureCache(tmp_path, engine="spark")


def test_a_part_that_cannot_be_made_again_is_refused(tmp_path):
    part = split_of(torch.randn(4, 6)).faster(["fold"], 8, None)
    with pytest.raises(fl.DataError, match="cannot be sent"):
        builders_of(fl.FeatureCache(tmp_path).location, part, [], 8, 0, engine="ray")


def order_of(cache: fl.FeatureCache, split, dataset, **changed) -> Order:
    recipe = dict(split.recipe)
    order = Order(cache.location, split.sent(), dataset, 8, 0, None, None, "exact", recipe, fill_as_planned)
    return replace(order, **changed)


def test_a_builder_gives_what_a_range_has(tmp_path):
    dataset = helpers_ray.Items(tmp_path, 20)
    split, cache = split_of(dataset.inputs), fl.FeatureCache(tmp_path / "features")
    builder = Builder(order_of(cache, split, dataset))
    for computed in (5, 0):  # a range that is given out again is known
        part = builder.fill([3, 4, 9, 10, 11])
        assert (part.indices, part.targets, part.computed) == ([3, 4, 9, 10, 11], [0, 1, 0, 1, 2], computed)
    assert cache.fill(split, dataset, progress=False).figures.computed == 15


def test_a_builder_whose_frozen_part_is_another_one_fills_nothing(tmp_path):
    dataset = helpers_ray.Items(tmp_path, 20)
    split, cache = split_of(dataset.inputs), fl.FeatureCache(tmp_path / "features")
    builder = Builder(order_of(cache, split, dataset, recipe={**split.recipe, "weights": "others"}))
    with pytest.raises(fl.CacheError, match="another one in the processes") as caught:
        builder.fill([0, 1])
    assert "another weights" in caught.value.received
    assert cache.entries() == ()


def test_errors_of_builders_keep_their_parts():
    own = fl.CacheError(what="It failed.", where="here", received="this", do="that.")
    assert told(SimpleNamespace(cause=own)).where == "here (a builder of the cluster)"
    other = told(SimpleNamespace(cause=ZeroDivisionError("by nothing")))
    assert isinstance(other, fl.DataError)
    assert other.received == "ZeroDivisionError: by nothing"


@pytest.mark.parametrize(("count", "row_bytes", "expected"), [(10**9, 1024, 2**19), (10**7, 2**20, 512), (80, 8, 32)])
def test_a_range_makes_one_full_shard_at_most(count, row_bytes, expected):
    builders = SimpleNamespace(_num_actors=lambda: 2, _order=SimpleNamespace(batch_size=32))
    assert RayBuilders._range_size(builders, count, row_bytes) == expected


class Steered(torch.nn.Module):
    """Its head gets a tensor that all samples share."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.table = torch.nn.Linear(6, 5), torch.nn.Embedding(4, 5)
        self.middle, self.head = torch.nn.Linear(5, 5), torch.nn.Linear(5, 3)
        for layer in (self.one, self.table):
            layer.requires_grad_(False)

    def forward(self, inputs):
        whole = self.table(torch.arange(4)).sum(0, keepdim=True)
        return self.head(self.one(inputs)) + self.middle(whole).mean()


class InHalves(Alone):
    """Two builders of a cluster, one after the other and in this process."""

    are_many = True

    def __init__(self, order: Order) -> None:
        self._builder = Builder(order)

    def read(self, filling, plan, unread, advance) -> None:
        for part in (unread[::2], unread[1::2]):
            filling.adopt(self._builder.fill(part))


def test_what_all_samples_share_and_the_number_of_views_come_from_builders(tmp_path):
    torch.manual_seed(0)
    model, inputs, cache = Steered(), torch.randn(20, 6), fl.FeatureCache(tmp_path)
    split, dataset = fl.split(model, inputs[:4]), TensorDataset(inputs, torch.arange(20))
    assert any(own.shared for own in split.frontier)
    builders = InHalves(order_of(cache, split, dataset, views=2))
    data = fill_as_planned(cache.location, split, viewed(dataset, "fill", 2), 8, progress=False, builders=builders)
    features, _ = next(iter(data.loader(20)))
    # filled in batches of 8: some processors round by the size of the batch
    assert relative_difference(split.head(*features), model(inputs)) <= batch_tolerance(torch.float32, is_on_gpu=False)
    assert (data.figures.views, cache.entries()[0].views) == (2, 2)
