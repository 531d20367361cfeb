"""Fills by a real Ray cluster whose nodes go, that has no room, or that fills a store: `--parts ray`."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

import frostline as fl
from frostline.caching.fill import ray_ranges

_TESTS = Path(__file__).parents[2] / "tests"
_SETTINGS = {"PYTHONPATH": f"{_TESTS}{os.pathsep}{_TESTS.parent}", "RAY_AUTH_MODE": "disabled",
             "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip


class Slow:
    """Items that take a while to read.

    Args:
        count: How many.
        item_s: Seconds of each.
    """

    fingerprint = "slow"

    def __init__(self, count: int, item_s: float) -> None:
        self.inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
        self.item_s = item_s

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(self.item_s)
        return self.inputs[index], index % 3

    def sample_key(self, index: int) -> bytes:
        return index.to_bytes(8, "little")

    def target(self, index: int) -> int:
        return index % 3


def cluster() -> int:
    """Run all of them; returns how many went wrong."""
    os.environ |= _SETTINGS
    sys.path[:0] = [str(_TESTS)]
    wrong = 0
    for run in (lost_node, no_room, filled_store):
        try:
            run()
        except Exception as error:
            wrong += 1
            print(f"ray: {run.__name__}: {type(error).__name__}: {error}", flush=True)
    return wrong


def _split() -> fl.Split:
    from helpers_ray import Net

    torch.manual_seed(0)
    model = Net()
    fl.freeze(model, through="one")
    return fl.split(model, torch.randn(4, 6))


def _checked(cache: fl.FeatureCache, split: fl.Split, samples: Slow, data: fl.CachedDataset, what: str) -> None:
    """Raise unless every row is there, is right, and is found again."""
    features, targets = next(iter(data.loader(len(samples))))
    torch.testing.assert_close(features[0], split.extract(samples.inputs)[0])
    assert targets.tolist() == [index % 3 for index in range(len(samples))]
    again = cache.fill(split, samples, progress=False, engine="local")
    assert again.figures.computed == 0, f"{again.figures.computed} rows are lost"
    assert cache.verify() == ()
    print(f"ray: {what}: {len(samples)} rows right; {'; '.join(data.notes) or 'no notes'}", flush=True)


def lost_node() -> None:
    """One of two nodes is removed while its actor is at work."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False,
                                                          "object_store_memory": 80 * 2**20})  # fmt: skip
    second = nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
    try:
        with tempfile.TemporaryDirectory() as folder:
            samples, split, cache = Slow(400, 0.05), _split(), fl.FeatureCache(folder, engine="ray")
            timer = threading.Timer(25.0, lambda: nodes.remove_node(second, allow_graceful=False))
            timer.start()
            data = cache.fill(split, samples, batch_size=8, progress=False)
            assert not timer.is_alive(), "the fill was done before the node went"
            _checked(cache, split, samples, data, "a node that goes")
    finally:
        ray.shutdown()
        nodes.shutdown()


def no_room() -> None:
    """Every processor is taken: by somebody else, and by the task that fills."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error",
             object_store_memory=80 * 2**20)  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as folder:

            @ray.remote(num_cpus=1)
            def task(keeps: bool) -> tuple[int, list[str]]:
                ray_ranges._START_S = 5.0
                samples, cache = Slow(64, 0.0), fl.FeatureCache(Path(folder) / str(keeps), engine="ray")
                data = cache.fill(_split(), samples, batch_size=8, progress=False)
                return len(data), [note for note in data.notes if "room" in note]

            print(f"ray: a task with the last processor fills: {ray.get(task.remote(False), timeout=300)}", flush=True)

            @ray.remote(num_cpus=1)
            class Other:
                def ready(self) -> None:
                    """It has the processor."""

            other: Any = Other.remote()
            ray.get(other.ready.remote())
            ray_ranges._START_S = 5.0
            samples, split, cache = Slow(64, 0.0), _split(), fl.FeatureCache(Path(folder) / "full", engine="ray")
            data = cache.fill(split, samples, batch_size=8, progress=False)
            _checked(cache, split, samples, data, "a cluster without room")
    finally:
        ray_ranges._START_S = 60.0
        ray.shutdown()


def filled_store() -> None:
    """Two actors fill a bucket of an S3 server."""
    import ray

    from helpers_s3 import s3_server

    with s3_server() as (_, options):
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
                 object_store_memory=80 * 2**20)  # fmt: skip
        try:
            with tempfile.TemporaryDirectory() as folder:
                split, samples = _split(), Slow(200, 0.01)
                cache = fl.FeatureCache("s3://bucket/ray", storage_options=options, local_folder=folder, engine="ray")
                data = cache.fill(split, samples, batch_size=8, progress=False)
                _checked(cache, split, samples, data, "a store")
        finally:
            ray.shutdown()
