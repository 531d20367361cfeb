"""P9: a cache ten times larger than the memory budget, and the speed of `verify` and of `export`.

Memory is what the process holds (VmRSS) beyond what it held before the pass, at most; rates are per second of processor
time, on files in the page cache, and of a pass in wall time after the page cache was asked to drop them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from p4_gather import Part
from torch.utils.data import TensorDataset

import frostline as fl

_BUDGET = 64 * 2**20


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Peak memory over the budget, and rates in GB/s."""
    del device
    budget = _BUDGET // 8 if is_quick else _BUDGET
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "budget, MB": budget / 1e6}
    for name, repeats in (("8 KB", 4), ("100 KB", 50)):
        count = 10 * budget // (2048 * repeats) + 1
        dataset = TensorDataset(torch.randn(count, 512), torch.zeros(count, dtype=torch.long))
        with tempfile.TemporaryDirectory() as folder:
            cache = fl.FeatureCache(folder)
            cache.fill(Part(repeats), dataset, progress=False)
            data = fl.FeatureCache(folder).fill(Part(repeats), dataset, progress=False)
            size = count * 2048 * repeats
            figures[f"bytes / budget, {name} rows"] = size / budget
            list(data.part(range(512)).loader(64, memory_bytes=1))  # what a pass of any size needs
            _drop(folder)
            before, most, started = _held(), 0, time.perf_counter()
            for batch in data.loader(64, shuffle=True, memory_bytes=budget):
                del batch
                most = max(most, _held() - before)
            figures[f"memory / budget, {name} rows"] = most / budget
            figures[f"pass within the budget, cold, {name} rows, GB/s"] = size / (time.perf_counter() - started) / 1e9
            within = _seconds(lambda data=data: _passed(data.loader(64, shuffle=True, memory_bytes=budget)))
            mapped = _seconds(lambda data=data: _passed(data.loader(64, shuffle=True)))
            figures[f"pass within the budget / mapped, warm, {name} rows, processor time"] = within / mapped
            figures[f"verify, {name} rows, GB/s"] = size / _seconds(fl.FeatureCache(folder).verify) / 1e9
            figures[f"SHA-256 of the same in memory, {name} rows, GB/s"] = size / _seconds(partial(_hashed, size)) / 1e9
            rows = Path(folder) / "rows.safetensors"
            figures[f"export, {name} rows, GB/s"] = size / _seconds(partial(data.export, rows)) / 1e9
    return figures


def _hashed(size: int) -> None:
    digest, block = hashlib.sha256(), bytes(2**20)
    for _ in range(size // len(block)):
        digest.update(block)


def _passed(loader: Any) -> None:
    for batch in loader:
        del batch


def _seconds(run_once: Callable[[], object]) -> float:
    """Of processor time."""
    started = time.process_time()
    run_once()
    return time.process_time() - started


def _held() -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def _drop(folder: str) -> None:
    """Ask the kernel to forget the files; what is mapped by somebody may stay."""
    for path in Path(folder).rglob("*.safetensors"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
