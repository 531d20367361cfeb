"""The rows of one name in all mapped shards as one tensor, from which one call gathers a batch.

Legend: B batch, M places where a row may begin.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import torch
from torch import Tensor

Places = tuple[Tensor, Tensor]  # (shard, row there) of some samples, (B,) each
Select = Callable[[str, Tensor, Tensor], Tensor]  # (name, rows, places): the rows at these places
_WIDE = 2**15  # values: torch copies wider rows one by one through a slower path; as words of 8 bytes they are shorter
_WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


def fresh(name: str, rows: Tensor, at: Tensor) -> Tensor:
    """`rows.index_select(0, at)` in memory of its own."""
    del name
    return rows.index_select(0, at)


class Span:
    """The rows of one name in all shards as one tensor, so that one call gathers a batch from any number of them.

    The tensor spans the addresses from the first mapped shard to the last. Its row i begins i values behind the first:
    most rows overlap others, or lie where nothing is mapped; only those that begin where a stored row does are
    gathered. Rows that do not begin on a multiple of their values, and wide ones, are gathered as words.

    Args:
        name: Of the rows.
        mapped: (rows, *shape) of each shard, all of one dtype and shape of a row.
    """

    def __init__(self, name: str, mapped: list[Tensor]) -> None:
        self._name, self._mapped = name, mapped  # the latter keeps the memory
        filled = [tensor for tensor in mapped if tensor.numel()] or mapped[:1]  # empty ones lie nowhere
        self._dtype, self._shape = dtype, shape = filled[0].dtype, filled[0].shape[1:]
        row_bytes, strides = math.prod(shape) * dtype.itemsize, filled[0].stride()[1:]
        lowest = min(tensor.data_ptr() for tensor in filled)
        distances = [tensor.data_ptr() - lowest if tensor.numel() else 0 for tensor in mapped]
        size = max(own + tensor.nbytes for own, tensor in zip(distances, mapped, strict=True))
        word = math.gcd(8, row_bytes, lowest, *distances)
        self._is_whole = word % dtype.itemsize == 0 and math.prod(shape) < _WIDE
        if not self._is_whole:
            dtype, shape, strides = _WORDS[word], (row_bytes // word,), (1,)
        self._step = step = row_bytes // dtype.itemsize
        self._firsts = torch.tensor([own // dtype.itemsize for own in distances], device="cpu")
        if not size:  # rows of no values
            self._rows_M = mapped[0].new_empty((1, *shape))
            return
        memory = (ctypes.c_uint8 * size).from_address(lowest)
        flat = torch.frombuffer(memory, dtype=dtype, count=size // dtype.itemsize)
        self._rows_M = flat.as_strided((len(flat) - step + 1, *shape), (1, *strides))

    def starts(self, shard: Tensor, row: Tensor) -> Tensor:
        """(B,) where the rows at these places begin, in values or words."""
        return self._firsts.index_select(0, shard).add_(row, alpha=self._step)

    def gather(self, starts: Tensor, select: Select = fresh) -> Tensor:
        """The rows that begin there, (B, *shape)."""
        found = select(self._name, self._rows_M, starts)
        return found if self._is_whole else found.view(self._dtype).view(len(starts), *self._shape)
