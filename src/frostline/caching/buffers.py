"""Memory of batches that nobody holds any more, for the batches that come next.

The kernel hands fresh memory out page by page, and clears it: for a batch of megabytes this takes longer than to copy
its rows.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LEAST_BYTES = 2**20  # to lend takes up to 12 us, a tenth of the copy of half a megabyte (measured, 2 cores of an EPYC)
_KEPT = 2  # of each name; a loop that holds more batches still frees one for each that it takes


class Buffers:
    """Lends memory to batches, and takes it back when the last tensor or array that uses it is gone, never before.

    Each time, what is lent is a new memoryview. Its storage holds it, and every tensor, view, array and saved value
    holds the storage; the end of the memoryview puts the memory back.
    """

    def __init__(self) -> None:
        # Threads may share a loader: a deque is popped and appended to in one step.
        self._free: defaultdict[str, deque[NDArray[np.uint8]]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def __reduce__(self) -> tuple[type[Buffers], tuple[()]]:
        return Buffers, ()  # a copy, or one in another process, begins without memory

    def select(self, name: str, rows: Tensor, at: Tensor) -> Tensor:
        """`rows.index_select(0, at)`, in memory that no other batch has while this one is held.

        Args:
            name: What the rows are: its batches are of one size.
            rows: (M, *shape), at least one.
            at: (B,) of them, at least one.
        """
        count = len(at) * math.prod(rows.shape[1:])
        lent = self._lend(self._free[name], count * rows.element_size())
        out = torch.frombuffer(lent, dtype=rows.dtype, count=count).view(len(at), *rows.shape[1:])
        return torch.index_select(rows, 0, at, out=out)

    def _lend(self, free: deque[NDArray[np.uint8]], size: int) -> memoryview:
        memory = None
        with suppress(IndexError):
            memory = free.pop()
        if memory is None or memory.nbytes < size:
            memory = torch.empty(size, dtype=torch.uint8, device="cpu").numpy()  # aligned as torch aligns
        lent = memory.data  # a new memoryview each time
        weakref.finalize(lent, free.append, memory).atexit = False
        return lent


def is_worth_lending(num_bytes: int) -> bool:
    """True if fresh memory of this size may come from the kernel, and takes longer than to lend."""
    return num_bytes >= _LEAST_BYTES


def fresh(name: str, rows: Tensor, at: Tensor) -> Tensor:
    """`rows.index_select(0, at)` in memory of its own."""
    del name
    return rows.index_select(0, at)
