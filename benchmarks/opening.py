"""Opening a large cache: processor time until the rows are indexed, by the size of a row."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frostline.caching.store.manifest import Manifest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.opening import open_folder
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.shards import Shards

SHARDS = 40


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Seconds of processor time to open and index a cache, the median of three; beside it, to hash all of it."""
    del device
    count, figures = 200_000 if is_quick else 10_000_000, dict[str, Any]()
    for width in (8, 128):
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / ("0" * 32)
            size = _store(folder, count // (1 if width == 8 else 4), width)
            opened = sorted(_opened(folder) for _ in range(3))[1]
            name = f"{count // (1 if width == 8 else 4):,} rows of {4 * width} bytes in {SHARDS} shards"
            figures[f"seconds to open {name}"] = opened
            figures[f"seconds to hash all of it ({size / 1e9:.1f} GB)"] = _hashed(folder)
    return figures


def _store(folder: Path, count: int, width: int) -> int:
    """Write so many rows as a fill does; returns bytes."""
    from contextlib import ExitStack

    store, size, generator = Shards(folder / "shards"), 0, torch.Generator().manual_seed(0)
    for _ in range(SHARDS):
        keys = torch.randint(0, 256, (count // SHARDS, 16), dtype=torch.uint8, generator=generator)
        with ExitStack() as hold:
            name = store.write({KEYS: keys, "row": torch.zeros(len(keys), width)}, hold)
            write_manifest(folder / "manifests", Manifest(shards=(name,), rows=(len(keys),)))
        size += (folder / "shards" / name).stat().st_size
    return size


def _opened(folder: Path) -> float:
    started = time.process_time()
    opened = open_folder(folder, Shards(folder / "shards"))
    rows = opened.rows()
    keys = np.concatenate([shard[KEYS].numpy() for shard in rows.mapped])
    assert len(rows.find(keys)) == len(rows)
    return time.process_time() - started


def _hashed(folder: Path) -> float:
    opened = open_folder(folder, Shards(folder / "shards"))
    started = time.process_time()
    assert all(shard._digest() == shard.path.stem for shard in opened.held.values())
    return time.process_time() - started
