"""P4: the public loader against raw `index_select` on the same rows in memory, by row size and number of shards.

In wall time, and in processor time, which says more on a machine with other work on it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.store import shard_writer

SIZES = (("2 KB", 1, 50_000), ("8 KB", 4, 20_000), ("100 KB", 50, 4_000))
SHARDS = (1, 2, 20, 200)
ROUNDS = 21


class Part:
    """The wide rows themselves."""

    def __init__(self, repeats: int) -> None:
        self.repeats, self.recipe = repeats, {"repeats": str(repeats)}
        self.frontier = (fl.FrontierTensor("row", (512 * repeats,), torch.float32, 2048 * repeats, False),)

    def extract(self, inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """(B, 512) -> (B, 512 x repeats)."""
        return (inputs.repeat(1, self.repeats),)


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Rows per second through the loader over those of raw index_select, the median of paired rounds."""
    del device
    figures: dict[str, Any] = {"threads": torch.get_num_threads()}
    usual = shard_writer.SHARD_BYTES
    for name, repeats, count in SIZES:
        count = count // 20 if is_quick else count
        dataset = TensorDataset(torch.randn(count, 512), torch.zeros(count, dtype=torch.long))
        rows = dataset.tensors[0].repeat(1, repeats)
        for shards in SHARDS:
            size = count // shards
            shard_writer.SHARD_BYTES = min(usual, size * 2048 * repeats)  # smaller ones than usual stand for more data
            try:
                with tempfile.TemporaryDirectory() as folder:
                    batch = min(256, size)
                    data = fl.FeatureCache(folder).fill(Part(repeats), dataset, batch_size=batch, progress=False)
                    found, loader = len(data._gatherer.names), data.loader(256, shuffle=True)
                    wall, processor = _ratios(partial(_ours, loader), partial(_raw, rows))
            finally:
                shard_writer.SHARD_BYTES = usual
            figure = f"loader / raw index_select in memory, {name} rows, {found} shards"
            figures[figure], figures[f"{figure}, processor time"] = wall, processor
    return figures


def _ratios(ours: Callable[[], object], raw: Callable[[], object]) -> tuple[float, ...]:
    """Medians over rounds of raw / ours, the two in turn, in wall time and in processor time."""
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        times = [(time.perf_counter(), time.process_time())]
        for run_once in (ours, raw):
            run_once()
            times.append((time.perf_counter(), time.process_time()))
        start, between, end = times
        rounds.append([(end[at] - between[at]) / (between[at] - start[at]) for at in range(2)])
    return tuple(statistics.median(ratios) for ratios in zip(*rounds, strict=True))


def _raw(rows: torch.Tensor) -> None:
    for index in torch.randperm(len(rows)).split(256):
        rows.index_select(0, index)


def _ours(loader: Any) -> None:
    for batch in loader:
        del batch  # as the raw loop does: the memory is free for the next one
