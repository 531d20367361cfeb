"""What storing and loading features costs, as measured; every estimate of a cache's cost uses these."""

from __future__ import annotations

import time
from functools import cache

import torch

# Beside its features, a row costs its key, the watch over generators and its share of the proof: 0.24 ms. Features are
# hashed, written, synchronised, read again and merged: 150 MB/s. In an epoch they are gathered from memory: 2 GB/s and
# more. Of processor time, rows of 4 and of 400 KB, on an EPYC with two busy cores, 2026-11-29.
FILL_ROW_S = 2.4e-4
FILL_BYTES_PER_S = 150e6
EPOCH_BYTES_PER_S = 2e9

_ROWS, _ROW_BYTES, _BATCH = 512, 2**16, 64
_ROUNDS = 3


@cache
def gather_byte_s() -> float:
    """Seconds to gather a byte of random rows from memory on this machine, measured once in a process.

    Rows of 64 KB from 32 MB: more than the caches of a processor hold.
    """
    rows = torch.zeros(_ROWS, _ROW_BYTES, dtype=torch.uint8, device="cpu")
    order = torch.randperm(_ROWS, generator=torch.Generator().manual_seed(0), device="cpu")
    times: list[float] = []
    for _ in range(_ROUNDS + 1):
        started = time.perf_counter()
        for part in order.split(_BATCH):
            rows.index_select(0, part)
        times.append(time.perf_counter() - started)
    return min(times[1:]) / rows.nbytes
