"""Conversion of bytes to tensors, for every dtype of PyTorch."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.readers.weight_file import WeightFile

MAX_AXES = 64  # the limit of NumPy; no framework writes tensors with more axes
MAX_TENSORS = 1_000_000
MAX_NAME_BYTES = 4_096

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
        torch.bool, torch.complex64, torch.complex128,
    )
}  # fmt: skip


def num_bytes(file: WeightFile, shape: Sequence[int], dtype: str) -> int:
    """The size of an array in bytes.

    Args:
        file: The file, for the error.
        shape: The declared shape; any Python integers.
        dtype: A name in `DTYPES`.

    Raises:
        PortError: If the shape has a negative size or more than `MAX_AXES` axes.
    """
    if len(shape) > MAX_AXES or any(size < 0 for size in shape):
        raise file.damaged(f"an array of the impossible shape {tuple(shape)[:8]}")
    return math.prod(shape) * DTYPES[dtype].itemsize


def tensor_of(
    file: WeightFile, raw: bytes | np.ndarray, shape: Sequence[int], dtype: str, *, is_big_endian: bool = False
) -> Tensor:  # fmt: skip
    """The tensor with the elements `raw`, in C order.

    Args:
        file: The file, for the error.
        raw: The bytes of the elements; an array of bytes (`WeightFile.array_at`) becomes the memory of the tensor.
        shape: The shape of the tensor.
        dtype: A name in `DTYPES`.
        is_big_endian: Whether the most significant byte of an element comes first.

    Raises:
        PortError: If the number of bytes does not fit the shape.
    """
    expected = num_bytes(file, shape, dtype)
    if len(raw) != expected:
        raise file.damaged(f"{len(raw)} bytes for an array of shape {tuple(shape)} in {dtype}, which needs {expected}")
    if not expected:
        return torch.empty(tuple(shape), dtype=DTYPES[dtype])
    if isinstance(raw, np.ndarray):
        data = raw if raw.ctypes.data % DTYPES[dtype].itemsize == 0 else raw.copy()
    else:
        data = bytearray(raw)  # torch.frombuffer warns about read-only memory
    if is_big_endian != (sys.byteorder == "big"):
        width = DTYPES[dtype].itemsize // (2 if DTYPES[dtype].is_complex else 1)
        data = bytearray(torch.frombuffer(data, dtype=torch.uint8).reshape(-1, width).flip(1).numpy().tobytes())
    return torch.frombuffer(data, dtype=DTYPES[dtype]).reshape(tuple(shape))


def check_names(file: WeightFile, names: Sequence[str]) -> None:
    """Refuse tables of contents that no tool writes: duplicate names, overlong names, control characters.

    Raises:
        PortError: If there is such a name, or there are more than `MAX_TENSORS` names.
    """
    if len(names) > MAX_TENSORS:
        raise file.damaged(f"a table of {len(names)} arrays; the limit is {MAX_TENSORS}")
    seen: set[str] = set()
    for name in names:
        if len(name.encode(errors="replace")) > MAX_NAME_BYTES or not name.isprintable():
            raise file.damaged(f"an array named {name[:60]!r}")
        if name in seen:
            raise file.damaged(f"two arrays named {name!r}")
        seen.add(name)
