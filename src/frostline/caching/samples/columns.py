"""One value of each sample of a dataset, such as its target: side by side where all are of one kind.

Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.core.disk_array import disk_tensor

if TYPE_CHECKING:
    from pathlib import Path

# Floats are kept in full, and become float32 when all are known, as `collate_targets` has them.
_NUMBERS: dict[type, torch.dtype] = {int: torch.int64, np.int64: torch.int64, float: torch.float64}
_WIDENED = {torch.uint16, torch.uint32, torch.uint64}  # become int64 where targets are joined
_AT_ONCE = 2**20


class Column:
    """Values by position, read back as they were given; they take some bytes each, on a disk where that is much.

    Values of several kinds are kept one by one.

    Args:
        count: How many there are.
        folder: On the disk that takes them; None is memory.
    """

    def __init__(self, count: int, folder: Path | None = None) -> None:
        self._count, self._folder = count, folder
        self._kind: tuple[Any, ...] | None = None  # (type, dtype, shape)
        self._together = torch.empty(0, dtype=torch.float32, device="cpu")
        self._numbers = self._together.numpy()  # faster to set by one number
        self._alone: list[Any] | None = None

    def __len__(self) -> int:
        return self._count

    def __setitem__(self, index: int, value: Any) -> None:
        if self._alone is None and not self._is_kept(index, value):
            self._alone = [None] * self._count if self._kind is None else list(self)
        if self._alone is not None:
            self._alone[index] = value

    def __getitem__(self, index: int) -> Any:
        if self._alone is not None or self._kind is None:
            return self._alone[index] if self._alone is not None else None
        if self._kind[0] is Tensor:
            return self._together[index].clone()  # a view would be sent to other processes with all values
        return self._kind[0](self._numbers[index])

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self._count))

    def tensor(self) -> Tensor | None:
        """(N, ...) all values; None where they are of several kinds, or there are none."""
        if self._alone is not None or self._kind is None:
            return None
        if self._kind[0] is not float:
            return self._together
        found = disk_tensor((self._count,), torch.float32, self._folder)
        for start in range(0, self._count, _AT_ONCE):
            found[start : start + _AT_ONCE] = self._together[start : start + _AT_ONCE]
        return found

    def _is_kept(self, index: int, value: Any) -> bool:
        """Keep a value beside those that are known; False if it is of another kind."""
        kind = _kind(value)
        if self._kind is None and kind is not None:
            self._kind = kind
            self._together = disk_tensor((self._count, *kind[2]), kind[1], self._folder)
            if kind[0] is not Tensor:
                self._numbers = self._together.numpy()
        if kind is None or kind != self._kind:
            return False
        try:
            (self._together if kind[0] is Tensor else self._numbers)[index] = value
        except OverflowError:  # a whole number of more than 64 bits
            return False
        return True


def _kind(value: Any) -> tuple[Any, ...] | None:
    if type(value) in _NUMBERS:
        return type(value), _NUMBERS[type(value)], ()
    is_plain = type(value) is Tensor and value.device.type == "cpu" and value.layout is torch.strided
    if is_plain and not value.requires_grad and not value.is_nested and value.dtype not in _WIDENED:
        return Tensor, value.dtype, tuple(value.shape)
    return None
