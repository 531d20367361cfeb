"""Large arrays that lie on a disk: the kernel can write their pages there, and take the memory for something else."""

from __future__ import annotations

import math
import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.core import io
from frostline.core.file_systems import can_reserve

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Smaller arrays stay in memory: a handful of them is nothing beside a model, and a file of each costs time.
_LEAST_BYTES = 32 * 2**20
FEW = _LEAST_BYTES // 8  # numbers that are kept as they are quickest to use


def disk_array(shape: tuple[int, ...], dtype: Any, folder: Path | None) -> NDArray[Any]:
    """Zeros; where they are large, mapped from a file without a name that is gone with the array or the process.

    Processes that are forked share the file: what one of them writes, the others see.

    Args:
        shape: Of the array.
        dtype: Of its values.
        folder: On the disk to use; None is memory. So is a disk that is full or read-only, that keeps no room for what
            is written later, or where files without a name cannot be made.
    """
    found = _mapped(math.prod(shape) * np.dtype(dtype).itemsize, folder)
    return np.zeros(shape, dtype) if found is None else np.frombuffer(found, dtype).reshape(shape)


def disk_tensor(shape: tuple[int, ...], dtype: torch.dtype, folder: Path | None) -> Tensor:
    """The same as a tensor."""
    found = _mapped(math.prod(shape) * dtype.itemsize, folder)
    if found is None:
        return torch.zeros(shape, dtype=dtype, device="cpu")
    return torch.frombuffer(found, dtype=dtype).view(shape)


def row_type(count: int) -> type[np.signedinteger[Any]]:
    """The smallest common type of numbers below `count`, and of -1."""
    return next((kind for kind in (np.int16, np.int32) if count <= np.iinfo(kind).max), np.int64)


def _mapped(size: int, folder: Path | None) -> mmap.mmap | None:
    flag: int | None = getattr(os, "O_TMPFILE", None)  # Linux; it never has a name, so that a kill leaves nothing
    if folder is None or flag is None or size < _LEAST_BYTES or not can_reserve(folder):
        return None
    with suppress(OSError):
        descriptor = io.call(os.open, folder, flag | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            io.call(os.posix_fallocate, descriptor, 0, size)  # a full disk would end the process when it is written
            return io.call(mmap.mmap, descriptor, size)
        finally:
            os.close(descriptor)
    return None
