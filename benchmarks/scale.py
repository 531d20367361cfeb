"""What a very large cache takes: bytes of memory by stage of a run, and rates of one core (docs/scale.md).

Legend: N rows.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frostline.caching.fill.fill import fill_plan
from frostline.caching.fill.fill_plan import Samples, plan_fill
from frostline.caching.reading.gather import Gatherer
from frostline.caching.keys import KEY_BYTES, item_key
from frostline.caching.reading.loader import CachedLoader
from frostline.caching.store.manifest import Manifest, read_newest, write_manifest
from frostline.caching.store.opening import open_folder
from frostline.caching.store.shard_writer import SHARD_BYTES
from frostline.caching.store.shards import KEYS, Shards
from frostline.core.order import epoch_order
from frostline.core.records import FrontierTensor

FRONTIER = (FrontierTensor("row", (2,), torch.float32, 8, False),)
SHARDS, TARGET_BYTES = 40, 8


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Bytes of memory for each row by stage, seconds of one core for each million rows, and rates of a core."""
    del device
    count = 200_000 if is_quick else 10_000_000
    figures = dict[str, Any]()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / ("0" * 32)
        _store(folder, count)
        for kind in ("same order", "another order"):
            told = subprocess.run([sys.executable, __file__, str(folder), kind, str(count)], check=True,
                                  capture_output=True, text=True)  # fmt: skip
            for name, (num_bytes, seconds) in json.loads(told.stdout).items():
                figures[f"{name} ({kind}): bytes of memory per row"] = num_bytes / count
                figures[f"{name} ({kind}): seconds per million rows"] = seconds / count * 1e6
    figures |= _manifests() | _rates()
    return (
        figures
        | _computed(figures, "1 billion rows of 1 KB", 10**9, 2**10, "keys of items of 1 KB per second")
        | (_computed(figures, "10 million rows of 1 MB", 10**7, 2**20, "keys of items of 1 MB per second"))
    )


def _computed(figures: dict[str, float], name: str, count: int, size: int, keys: str) -> dict[str, float]:
    """What so many rows of so many bytes take, by the figures of this run."""
    per_row = {stage: figures[f"{stage} (same order): bytes of memory per row"] for stage in
               ("find the rows of a dataset", "first batch", "samples of a fill", "their targets")}  # fmt: skip
    # keys in memory, which the measured stage has already, and what sorts them
    sorted_bytes = KEY_BYTES - per_row["find the rows of a dataset"]
    sorted_bytes += figures["find the rows of a dataset (another order): bytes of memory per row"]
    kept = per_row["find the rows of a dataset"] + per_row["first batch"] + KEY_BYTES + TARGET_BYTES
    filled = per_row["find the rows of a dataset"] + per_row["samples of a fill"] + KEY_BYTES + per_row["their targets"]
    stored, shards = count * (size + KEY_BYTES), -(-count * (size + KEY_BYTES) // SHARD_BYTES)
    seconds = {
        "open": "open (same order)", "find": "find the rows of a dataset (same order)",
        "find in another order": "find the rows of a dataset (another order)",
        "order": "order of an epoch (same order)",
    }  # fmt: skip
    return {
        f"{name}: TB on the disk": stored / 1e12, f"{name}: shards": shards,
        f"{name}: KB of manifests": shards * figures["manifest: bytes per shard"] / 1e3,
        f"{name}: GB of memory while training": count * kept / 1e9,
        f"{name}: GB of memory while filling": count * filled / 1e9,
        f"{name}: GB more, filling in another order": count * sorted_bytes / 1e9,
        **{f"{name}: seconds to {stage}": count / 1e6 * figures[f"{of}: seconds per million rows"]
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


def _stages(folder: Path, kind: str, count: int) -> dict[str, tuple[int, float]]:
    """(bytes of memory that stay, seconds of processor time) of each stage of a run over all rows."""
    found: dict[str, tuple[int, float]] = {}
    kept: list[Any] = []

    def stage(name: str, function: Any) -> Any:
        before, started = _anonymous_bytes(), time.process_time()
        kept.append(function())
        found[name] = _anonymous_bytes() - before, time.process_time() - started
        return kept[-1]

    opened = stage("open", lambda: open_folder(folder, Shards(folder / "shards")))
    rows = stage("index", opened.rows)
    keys = rows.keys.copy() if kind == "same order" else rows.keys[np.random.default_rng(0).permutation(count)]
    gatherer = stage("find the rows of a dataset", lambda: Gatherer(rows, keys, FRONTIER, {}, {}))
    targets = torch.zeros(count, dtype=torch.int64)
    loader = CachedLoader(gatherer, targets, count, 1024, shuffle=True, seed=0, drop_last=False, device=None)
    stage("order of an epoch", lambda: epoch_order(count, shuffle=True, seed=0, epoch=0))
    batches = iter(loader)
    stage("first batch", lambda: next(batches))
    stage("plan of a fill that knows all rows", lambda: _plan(opened, rows, keys))
    if kind == "same order":
        samples = stage("samples of a fill", lambda: Samples(count, []))
        stage("their targets", lambda: [samples.take(at, at % 1000, None) for at in range(count)] and None)
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


def _plan(opened: Any, rows: Any, keys: Any) -> Any:
    samples = Samples(len(keys), [])
    original, fill_plan.offered_keys = fill_plan.offered_keys, lambda dataset: keys  # the keys of the rows
    try:
        return plan_fill(_Offered(keys), samples, rows, opened), samples
    finally:
        fill_plan.offered_keys = original


if __name__ == "__main__":
    print(json.dumps(_stages(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
