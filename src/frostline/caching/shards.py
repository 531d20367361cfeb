"""Shards: immutable safetensors files, named by the SHA-256 of their content, mapped read-only.

Legend: N rows of a shard.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core.errors import CacheError
from frostline.core.io import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARD_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
KEYS = "sample_keys"
_MAX_HEADER_BYTES = 2**20
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Shards:
    """The mapped shards of one folder; a digest is checked once, and again if the file changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, dict[str, Tensor]] = {}
        self._seen: dict[str, tuple[int, ...]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_open": {}, "_seen": {}}  # mapped memory is opened anew in every process

    def open(self, name: str) -> dict[str, Tensor]:
        """The tensors of a shard, by name.

        Raises:
            CacheError: If the file is missing, truncated or changed.
        """
        if name not in self._open:
            self._seen[name] = _stat(self.path(name))
            self._open[name] = _read(self.path(name))
        return self._open[name]

    def write(self, tensors: Mapping[str, Tensor]) -> str:
        """Publish tensors as one file; the same content twice is one file.

        Returns:
            The file's name.
        """
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        chunks = [_header(plain), *(_data(tensor) for tensor in plain.values())]
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        name = f"{digest.hexdigest()}.safetensors"
        if not self._is_whole(name):
            write_atomic(self.path(name), chunks)
        return name

    def remove(self, name: str) -> None:
        """Delete a shard that no manifest needs any more; who has it mapped keeps reading it."""
        self._open.pop(name, None)
        self.path(name).unlink(missing_ok=True)

    def _is_whole(self, name: str) -> bool:
        self.forget_changed()
        try:
            self.open(name)
        except CacheError:
            return False
        return True

    def path(self, name: str) -> Path:
        """Where the shard lies."""
        return self.folder / name

    def forget_changed(self) -> None:
        """Close the shards whose files are not the ones that were opened: the next `open` checks their digest."""
        for name in list(self._open):
            if _stat(self.path(name)) != self._seen[name]:
                del self._open[name]


def _stat(path: Path) -> tuple[int, ...]:
    """What changes when a file does; nothing of a file that is not there."""
    try:
        stat = path.lstat()
    except OSError:
        return ()
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    entries: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size],
        }  # fmt: skip
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64)  # rows start on a multiple of 8 bytes, as safetensors asks, and of a cache line
    return len(text).to_bytes(8, "little") + text


def _data(tensor: Tensor) -> memoryview:
    if tensor.numel() == 0:
        return memoryview(b"")
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _read(path: Path) -> dict[str, Tensor]:
    if not SHARD_NAME.fullmatch(path.name):
        raise _damaged(path, "a name that is no digest")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    try:
        size = os.fstat(descriptor).st_size
        if size < 8:
            raise _damaged(path, f"{size} bytes")
        # private and never written: torch wants a writable buffer, and pages stay shared until somebody writes
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    finally:
        os.close(descriptor)
    if hashlib.sha256(mapped).hexdigest() != path.stem:
        raise _damaged(path, "content that does not have the digest in its name")
    return _tensors(path, mapped, size)


def _tensors(path: Path, mapped: mmap.mmap, size: int) -> dict[str, Tensor]:
    length = int.from_bytes(mapped[:8], "little")
    if length > min(_MAX_HEADER_BYTES, size - 8):
        raise _damaged(path, f"a header of {length} bytes in a file of {size}")
    try:
        pairs = json.loads(mapped[8 : 8 + length], object_pairs_hook=_unique)
        return {name: _tensor(mapped, 8 + length, entry, size) for name, entry in pairs.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, f"a header that is not ours: {error}") from error


def _tensor(mapped: mmap.mmap, base: int, entry: dict[str, Any], size: int) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], [int(axis) for axis in entry["shape"]]
    start, end = (int(offset) for offset in entry["data_offsets"])
    count = math.prod(shape)
    if min(shape, default=0) < 0 or start < 0 or end - start != count * dtype.itemsize or base + end > size:
        raise ValueError("offsets that do not fit the file")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mapped, dtype=torch.uint8, count=end - start, offset=base + start).view(dtype).view(shape)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _damaged(path: Path, received: str) -> CacheError:
    return CacheError(
        what="A shard of the cache is damaged or missing.",
        where=str(path),
        received=received,
        do="fill the cache again: FeatureCache.fill sets the shard aside and computes its rows anew.",
    )
