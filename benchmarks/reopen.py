"""Reopening a cache of a keyed dataset that has not changed: processor time, by number of shards."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import frostline as fl
from frostline.caching.keys import offered_keys, recipe_key
from frostline.caching.store.manifest import Manifest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.shards import Shards


class Part:
    """Doubles its inputs."""

    recipe = {"name": "double"}  # noqa: RUF012 (a constant of a benchmark)
    frontier = (fl.FrontierTensor("row", (6,), torch.float32, 24, False),)

    def extract(self, inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """(B, 6) -> (B, 6)."""
        return (inputs * 2,)


class Keyed:
    """Samples with keys and targets that are told without reading them."""

    fingerprint = "plain"

    def __init__(self, count: int) -> None:
        self.inputs = torch.arange(6.0 * count).view(count, 6)
        self.labels = [at % 7 for at in range(count)]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.inputs[index], self.labels[index]

    def sample_key(self, index: int) -> bytes:
        """Cheap: what remains is the time of the cache itself."""
        return index.to_bytes(16, "little")

    def target(self, index: int) -> int:
        """The target alone."""
        return self.labels[index]


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Seconds of processor time of `FeatureCache(root).fill(...)` where every row is stored; the median of five."""
    del device
    count = 20_000 if is_quick else 1_000_000
    dataset, figures = Keyed(count), dict[str, Any]()
    for shards in (1, 8):
        with tempfile.TemporaryDirectory() as root:
            _store(Path(root) / recipe_key(Part()), dataset, shards)
            times = sorted(_reopen(root, dataset) for _ in range(5))
        figures[f"seconds of processor time to reopen {count:,} rows in {shards} shards"] = times[2]
    return figures


def _store(folder: Path, dataset: Keyed, shards: int) -> None:
    """Write the rows as a fill does, without reading a million items one by one."""
    keys, store = (
        torch.from_numpy(np.concatenate([keys for _, keys in offered_keys(dataset)])),
        Shards(folder / "shards"),
    )
    for own, rows in zip(keys.chunk(shards), dataset.inputs.chunk(shards), strict=True):
        name = store.write({KEYS: own, "row": rows * 2})
        write_manifest(folder / "manifests", Manifest(shards=(name,), rows=(len(own),)))


def _reopen(root: str, dataset: Keyed) -> float:
    started = time.process_time()
    data = fl.FeatureCache(root).fill(Part(), dataset, progress=False)
    elapsed = time.process_time() - started
    assert data.figures.computed == 0
    return elapsed
