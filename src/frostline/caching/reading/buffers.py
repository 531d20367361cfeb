"""Memory of batches without any reference left, reused for the next batches.

The kernel hands fresh memory out page by page, and clears it: for a batch of megabytes this takes longer than to copy
its rows.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict, deque
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

# To lend takes up to 25 us, a quarter of the copy of half a megabyte (measured, 2 cores of an EPYC, busy).
_LEAST_BYTES = 2**20
_KEPT = 2  # of each name; a loop that holds more batches still frees one for each that it takes


class Buffers:
    """Lends memory to batches, and takes it back when the last tensor or array that uses it is gone, never before.

    Each time, what is lent is a new array over the memory. The storage of the batch holds this array, and every tensor,
    view, array and saved value holds the storage; the end of the array puts the memory back.
    """

    def __init__(self) -> None:
        # Threads may share a loader: each use of a deque or of the dictionary is one step.
        self._free: defaultdict[str, deque[NDArray[np.uint8]]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._watched: dict[int, weakref.ref[NDArray[Any]]] = {}

    def __reduce__(self) -> tuple[type[Buffers], tuple[()]]:
        return Buffers, ()  # a copy, or one in another process, begins without memory

    def select(self, name: str, rows: Tensor, at: Tensor) -> Tensor:
        """`rows.index_select(0, at)`, in memory that no other batch has while this one is held.

        Args:
            name: What the rows are: its batches are of one size.
            rows: (M, *shape), at least one.
            at: (B,) of them, at least one.
        """
        # An array has a shape and a type at once: three operations of torch would do the same in three times as long.
        out = torch.from_numpy(self._lend(self._free[name], (len(at), *rows.shape[1:]), _like(rows.dtype)))
        return torch.index_select(rows, 0, at, out=out if out.dtype == rows.dtype else out.view(rows.dtype))

    def _lend(self, free: deque[NDArray[np.uint8]], shape: tuple[int, ...], like: np.dtype[Any]) -> NDArray[Any]:
        size = math.prod(shape) * like.itemsize
        try:
            memory = free.pop()
        except IndexError:
            memory = None
        if memory is None or memory.nbytes < size:
            memory = torch.empty(size, dtype=torch.uint8, device="cpu").numpy()  # aligned as torch aligns
        lent: NDArray[Any] = np.ndarray(shape, like, memory)
        watched, number = self._watched, id(lent)

        def take_back(_: object) -> None:
            del watched[number]
            free.append(memory)

        watched[number] = weakref.ref(lent, take_back)
        return lent


@cache
def _like(dtype: torch.dtype) -> np.dtype[Any]:
    """The type of an array whose values are as long as these, and are the same where numpy has that type."""
    try:
        return torch.empty(0, dtype=dtype, device="cpu").numpy().dtype
    except TypeError:
        return np.dtype(f"u{dtype.itemsize}")


def is_worth_lending(num_bytes: int) -> bool:
    """True if fresh memory of this size may come from the kernel, and takes longer than to lend."""
    return num_bytes >= _LEAST_BYTES
