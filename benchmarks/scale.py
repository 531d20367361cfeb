"""What a very large cache takes: memory and mapped bytes by stage of a run, and rates of one core (docs/scale.md).

Legend: N rows.
"""

from __future__ import annotations

import gc
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from frostline.caching.fill import fill_plan
from frostline.caching.fill.fill_plan import Samples, plan_fill
from frostline.caching.reading.gather import Gatherer
from frostline.caching.keys import KEY_BYTES, NewKeys, item_key
from frostline.caching.reading.loader import CachedLoader
from frostline.caching.store.manifest import Manifest, read_newest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.opening import open_folder
from frostline.caching.store.shard_writer import SHARD_BYTES
from frostline.caching.store.shards import KEYS, Shards
from frostline.core import disk_array as module
from frostline.core.disk_array import disk_array, disk_tensor
from frostline.core.order import epoch_order
from frostline.core.records import FrontierTensor

FRONTIER = (FrontierTensor("row", (2,), torch.float32, 8, False),)
SHARDS = 40
_MAPPED_FROM = 2**20  # bytes
_PEAK, _STAYS = "bytes of memory at once, per row", "bytes of memory that stay, per row"
_MAPPED, _SECONDS = "bytes mapped, per row", "seconds per million rows"
_TRAINING = ("find the rows of a dataset", "first batch", "keys of the samples", "plan of a fill that knows all rows")
_FILLING = ("find the rows of a dataset", "keys of the samples", "targets of a fill",
            "table of the keys that a fill has seen")  # fmt: skip


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Bytes for each row by stage, seconds of one core for each million rows, and rates of a core.

    Memory is anonymous (RssAnon): at most at once, and what stays. What is mapped lies in files of the cache's disk.
    """
    del device
    count = 200_000 if is_quick else 10_000_000
    figures = dict[str, Any]()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / ("0" * 32)
        _store(folder, count)
        for kind in ("same order", "another order"):
            told = subprocess.run([sys.executable, __file__, str(folder), kind, str(count)], check=True,
                                  capture_output=True, text=True)  # fmt: skip
            for name, own in json.loads(told.stdout).items():
                for what, value in own.items():
                    scale = 1e6 if what == _SECONDS else 1
                    figures[f"{name} ({kind}): {what}"] = value / count * scale
    figures |= _manifests() | _rates()
    return (
        figures
        | _computed(figures, "1 billion rows of 1 KB", 10**9, 2**10, "keys of items of 1 KB per second")
        | (_computed(figures, "10 million rows of 1 MB", 10**7, 2**20, "keys of items of 1 MB per second"))
    )


def _computed(figures: dict[str, float], name: str, count: int, size: int, keys: str) -> dict[str, float]:
    """What so many rows of so many bytes take, by the figures of this run."""
    kept, filled = (sum(figures[f"{stage} (same order): {_MAPPED}"] for stage in own) for own in (_TRAINING, _FILLING))
    found = figures[f"find the rows of a dataset (another order): {_MAPPED}"]
    found -= figures[f"find the rows of a dataset (same order): {_MAPPED}"]
    stored, shards = count * (size + KEY_BYTES), -(-count * (size + KEY_BYTES) // SHARD_BYTES)
    seconds = {
        "open": "open (same order)", "find": "find the rows of a dataset (same order)",
        "find in another order": "find the rows of a dataset (another order)",
        "order": "order of an epoch (same order)",
    }  # fmt: skip
    return {
        f"{name}: TB on the disk": stored / 1e12, f"{name}: shards": shards,
        f"{name}: KB of manifests": shards * figures["manifest: bytes per shard"] / 1e3,
        f"{name}: GB mapped while training": count * kept / 1e9,
        f"{name}: GB mapped while filling": count * filled / 1e9,
        f"{name}: GB more mapped, in another order": count * found / 1e9,
        **{f"{name}: seconds to {stage}": count / 1e6 * figures[f"{of}: {_SECONDS}"]
           for stage, of in seconds.items()},
        f"{name}: hours of a core for keys": count / figures[keys] / 3600,
        f"{name}: hours of a core to hash and write":
            stored / 1e9 / figures["GB written, hashed and synchronised per second of a core"] / 3600,
        f"{name}: hours of this disk to write":
            stored / 1e9 / figures["GB written, hashed and synchronised per second of the clock"] / 3600,
    }  # fmt: skip


def _store(folder: Path, count: int) -> None:
    store, generator = Shards(folder / "shards"), torch.Generator().manual_seed(0)
    for _ in range(SHARDS):
        keys = torch.randint(0, 256, (count // SHARDS, 16), dtype=torch.uint8, generator=generator)
        with ExitStack() as hold:
            name = store.write({KEYS: keys, "row": torch.zeros(len(keys), 2)}, hold)
            write_manifest(folder / "manifests", Manifest(shards=(name,), rows=(len(keys),)))


def _manifests() -> dict[str, float]:
    """Bytes and seconds of a manifest for each shard."""
    many = 1_000
    with tempfile.TemporaryDirectory() as root:
        names = tuple(hashlib.sha256(str(at).encode()).hexdigest() + ".safetensors" for at in range(many))
        write_manifest(Path(root), Manifest(shards=names, rows=(60_000,) * many))
        size = sum(path.stat().st_size for path in Path(root).iterdir())
        started = time.process_time()
        read_newest(Path(root))
        return {"manifest: bytes per shard": size / many,
                "manifest: seconds to read, per 1,000 shards": time.process_time() - started}  # fmt: skip


def _rates() -> dict[str, float]:
    """What one core does in a second of processor time."""
    small, large = torch.rand(256), torch.rand(2**18)  # 1 KB and 1 MB
    with tempfile.TemporaryDirectory() as root:
        store, rows = Shards(Path(root)), torch.rand(2**14, 2**12)  # 256 MB
        started, began = time.process_time(), time.perf_counter()
        with ExitStack() as hold:
            store.write({"row": rows}, hold)
        write_s, wall_s = time.process_time() - started, time.perf_counter() - began
    return {
        "keys of items of 1 KB per second": 1 / _seconds(lambda: item_key(small, 0), 20_000),
        "keys of items of 1 MB per second": 1 / _seconds(lambda: item_key(large, 0), 200),
        "GB written, hashed and synchronised per second of a core": rows.nbytes / 1e9 / write_s,
        "GB written, hashed and synchronised per second of the clock": rows.nbytes / 1e9 / wall_s,
    }


def _seconds(function: Any, times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        function()
    return (time.process_time() - started) / times


def _anonymous_bytes() -> int:
    """Memory of this process that no file holds."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def _mapped_bytes() -> int:
    """Bytes that are mapped from files without a name."""
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("(deleted)"):
            first, last = (int(own, 16) for own in line.split()[0].split("-"))
            found += last - first
    return found


class _Peak(Thread):
    """The most anonymous memory while this is open, looked at every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._end, self.most = Event(), 0

    def run(self) -> None:
        while not self._end.wait(0.005):
            self.most = max(self.most, _anonymous_bytes())

    def __enter__(self) -> _Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.most = max(self.most, _anonymous_bytes())
        self._end.set()
        self.join()


def _stages(folder: Path, kind: str, count: int) -> dict[str, dict[str, float]]:
    """Bytes, and seconds of processor time, of each stage of a run over all rows.

    Smaller arrays than usual are mapped, as those of many more rows are.
    """
    module._LEAST_BYTES = _MAPPED_FROM
    found: dict[str, dict[str, float]] = {}
    kept: list[Any] = []

    def stage(name: str, function: Any) -> Any:
        gc.collect()
        before, mapped, started = _anonymous_bytes(), _mapped_bytes(), time.process_time()
        with _Peak() as peak:
            kept.append(function())
            seconds = time.process_time() - started
        found[name] = {_PEAK: peak.most - before, _STAYS: _anonymous_bytes() - before,
                       _MAPPED: _mapped_bytes() - mapped, _SECONDS: seconds}  # fmt: skip
        return kept[-1]

    opened = stage("open", lambda: open_folder(folder, Shards(folder / "shards")))
    rows = stage("index", opened.rows)
    keys = disk_array((count, KEY_BYTES), np.uint8, folder)
    np.concatenate([shard[KEYS].numpy() for shard in rows.mapped], out=keys)
    if kind == "another order":
        keys[:] = keys[np.random.default_rng(0).permutation(count)]
    gatherer = stage("find the rows of a dataset", lambda: Gatherer(rows, keys, FRONTIER, {}, {}))
    targets = disk_tensor((count,), torch.int64, folder)
    loader = CachedLoader(gatherer, targets, count, 1024, shuffle=True, seed=0, drop_last=False, device=None)
    stage("order of an epoch", lambda: epoch_order(count, shuffle=True, seed=0, epoch=0, folder=folder))
    del kept[-1]
    epoch = iter(loader)
    stage("first batch", lambda: next(epoch))
    samples = stage("keys of the samples", lambda: Samples(count, [], folder))
    samples.keys[:] = keys
    stage("plan of a fill that knows all rows", lambda: _plan(opened, rows, keys, samples))
    if kind == "same order":
        samples = Samples(count, [], folder)
        samples.keys[:] = keys
        stage("targets of a fill", lambda: deque((samples.take(at, at % 1000, None) for at in range(count)), 0))
        new = stage("table of the keys that a fill has seen", lambda: NewKeys(keys, folder))
        stage("keys that a fill has seen", lambda: deque((new.add(at) for at in range(count)), 0))
    return found


class _Offered:
    """A dataset that offers keys and targets; what it takes itself is no part of the figures."""

    fingerprint = ""

    def __init__(self, keys: Any) -> None:
        self._keys = keys

    def sample_key(self, index: int) -> bytes:
        return bytes(self._keys[index])

    def target(self, index: int) -> int:
        return index % 1000


def _plan(opened: Any, rows: Any, keys: Any, samples: Samples) -> Any:
    original, fill_plan.offered_keys = fill_plan.offered_keys, lambda dataset: iter([(0, keys)])  # the keys of the rows
    try:
        return plan_fill(_Offered(keys), samples, rows, opened)
    finally:
        fill_plan.offered_keys = original


if __name__ == "__main__":
    print(json.dumps(_stages(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
