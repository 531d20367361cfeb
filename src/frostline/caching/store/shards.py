"""Shards: immutable safetensors files, named by the SHA-256 of their content, mapped read-only.

Legend: N rows of a shard.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.store.mapped_shard import KEYS, Shard, Tensors, damaged_shard, identity, identity_of
from frostline.caching.store.ragged import fits
from frostline.caching.store.sharing import ALONE
from frostline.core import io
from frostline.core.errors import CacheError
from frostline.core.file_map import private_map
from frostline.core.file_systems import locks_follow_maps
from frostline.core.io import Damaged, disk_errors, make_folder, open_regular, remove, status, unique_keys
from frostline.core.locks import lock
from frostline.core.new_files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import ExitStack

    from frostline.caching.store.mapped_shard import Mapped
    from frostline.caching.store.sharing import Sharing

SHARD_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_ABOUT = "__metadata__"  # the one entry of a safetensors header that is no tensor
_MAX_HEADER_BYTES = 2**20
_FETCHED_AT_ONCE = 4
# The widest rows of a shard start on a page. Rows of 2 KB that do not start on a line of the processor's cache take a
# tenth longer to gather, rows of 8 KB that touch a page more than they need 8% (measured, 200 shards, an EPYC).
_PAGE_BYTES = 4096
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
}  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}  # as safetensors calls them


class Shards:
    """The mapped shards of one recipe; a digest is checked once, and again if the file changes.

    A mapped shard is locked, shared with other readers: the collector deletes no file that anybody has mapped.
    """

    def __init__(self, folder: Path, sharing: Sharing = ALONE) -> None:
        self.folder, self.recipe, self.sharing = folder, folder.parent.name, sharing
        self._open: dict[str, Shard] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # memory is mapped anew in every process

    def open(self, name: str, *, is_lazy: bool = False) -> Shard:
        """The tensors of a shard, by name; its digest is checked before the first one is used.

        Args:
            name: Of the shard.
            is_lazy: Of a shard that lies in a store and not on this disk, bring the keys alone; the others are fetched
                before they are used.

        Raises:
            Damaged: If the file is missing or truncated, or belongs to another recipe.
            CacheError: If it cannot be read now; nothing is known of its content then.
        """
        known = self._open.get(name)
        if known is None and is_lazy and self.sharing.remote is not None and identity(self.path(name)) == ():
            known = self.sharing.remote.reserve(name)
            if known is not None:
                self._open[name] = known
        if known is None:
            self.bring(name)
            try:
                known = self._open[name] = self._mapped(name)
            except Damaged:
                if self.sharing.remote is None:
                    raise
                with disk_errors("delete", self.path(name)):
                    remove(self.path(name))  # a copy: the store may have it whole
                self.bring(name)
                known = self._open[name] = self._mapped(name)
        return known

    def _mapped(self, name: str) -> Shard:
        path = self.path(name)
        with disk_errors("read", path):
            return _read(path, self.recipe, keeps_descriptor=self._keeps_descriptors)

    @cached_property
    def _keeps_descriptors(self) -> bool:
        return not locks_follow_maps(self.folder)

    def bring_all(self, names: Iterable[str]) -> None:
        """Fetch several shards at once; one that fails raises when it is opened."""

        def bring(name: str) -> None:
            with suppress(CacheError):
                self.bring(name)

        if self.sharing.remote is not None:
            with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
                list(pool.map(bring, [name for name in names if name not in self._open]))

    def bring(self, name: str) -> None:
        """Fetch a shard that lies in a store and not on this disk; it is checked on the way."""
        if self.sharing.remote is None or not SHARD_NAME.fullmatch(name):
            return
        with disk_errors("read", self.path(name)):
            is_here = status(self.path(name)) is not None
        if not is_here:
            self.sharing.remote.fetch(name)

    def write(self, tensors: Mapping[str, Tensor], hold: ExitStack) -> str:
        """Publish tensors as one file; the same content twice is one file.

        Args:
            tensors: By name.
            hold: Keeps the file locked until it closes: the collector leaves it before a manifest names it.

        Returns:
            The file's name.
        """
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        chunks = [_header(plain, self.recipe), *(_data(tensor) for tensor in plain.values())]
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        name = f"{digest.hexdigest()}.safetensors"
        if not self._is_whole(name):
            make_folder(self.folder)
            write_atomic(self.path(name), chunks, hold)
        if self.sharing.remote is not None:
            self.sharing.remote.push(name)
        return name

    def _is_whole(self, name: str) -> bool:
        self.forget_changed([name])
        try:
            self.open(name).check()
        except CacheError:
            self.close(name)
            return False
        return True

    def path(self, name: str) -> Path:
        """Where the shard lies."""
        return self.folder / name

    def forget_changed(self, names: list[str] | None = None) -> None:
        """Close the shards whose files are not the ones that were opened: the next `open` checks their digest."""
        for name in list(self._open) if names is None else names:
            known = self._open.get(name)
            if known is None or (not known.is_here and not known.is_broken):
                continue
            if known.is_broken or identity(self.path(name)) != known.identity:
                self._open.pop(name, None)

    def close(self, name: str) -> None:
        """Read it from the disk again when it is opened next."""
        self._open.pop(name, None)

    def keep_only(self, names: set[str]) -> None:
        """Close the shards that are not among these: they may be deleted."""
        for name in set(self._open) - names:
            self._open.pop(name, None)


def check_rows(
    path: Path, tensors: Tensors, expected: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], rows: int
) -> None:
    """A shard must hold the rows that its manifest and the frontier say.

    Args:
        path: Of the shard.
        tensors: What it holds.
        expected: (dtype, shape) of one row by name.
        rows: How many there must be.

    Raises:
        Damaged: If it holds something else.
    """
    for name, (dtype, shape) in {KEYS: (torch.uint8, (16,)), **expected}.items():
        found = tensors.get(name)
        if -1 in shape and fits(tensors, name, dtype, shape, rows):
            continue
        if found is None or found.dtype != dtype or tuple(found.shape) != (rows, *shape):
            got = "nothing" if found is None else f"{found.dtype} {tuple(found.shape)}"
            raise damaged_shard(path, f"{got} as {name!r}, where {dtype} {(rows, *shape)} belongs")


def _header(tensors: Mapping[str, Tensor], recipe: str) -> bytes:
    entries: dict[str, Any] = {_ABOUT: {"recipe": recipe}}
    offset = widest = before = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        widest, before = max((widest, before), (size, offset))
        entries[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size],
        }  # fmt: skip
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    # the header itself ends on a multiple of 8 bytes, as safetensors asks
    text += b" " * (-(8 + len(text) + before // 8 * 8) % _PAGE_BYTES)
    return len(text).to_bytes(8, "little") + text


def _data(tensor: Tensor) -> memoryview:
    if tensor.numel() == 0:
        return memoryview(b"")
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _read(path: Path, recipe: str, *, keeps_descriptor: bool) -> Shard:
    if not SHARD_NAME.fullmatch(path.name):
        raise damaged_shard(path, "a name that is no digest")
    try:
        descriptor, size = open_regular(path)
    except FileNotFoundError as error:
        raise damaged_shard(path, error.strerror or "no such file") from error
    try:
        # Held as long as the shard is mapped.
        with suppress(OSError):  # a disk without locks: nothing is deleted there
            lock(descriptor, is_exclusive=False, is_waiting=True)
        found = io.call(os.fstat, descriptor)
        if not found.st_nlink:
            raise damaged_shard(path, "deleted while it was opened")
        if size < 8:
            raise damaged_shard(path, f"{size} bytes")
        mapped = private_map(descriptor, size, keeps_descriptor=keeps_descriptor)
    finally:
        os.close(descriptor)
    return Shard(path, identity_of(found), mapped, tensors_of(path, mapped, size, recipe))


def tensors_of(path: Path, mapped: Mapped, size: int, recipe: str) -> Tensors:
    """Views of the tensors in a mapped file, by name.

    Raises:
        Damaged: If its header is not one that Frostline writes, or belongs to another recipe.
    """
    length = int.from_bytes(bytes(mapped[:8]), "little")
    if length > min(_MAX_HEADER_BYTES, size - 8):
        raise damaged_shard(path, f"a header of {length} bytes in a file of {size}")
    try:
        entries: dict[str, Any] = json.loads(bytes(mapped[8 : 8 + length]), object_pairs_hook=unique_keys)
        about = entries.pop(_ABOUT, {})
        if about.get("recipe") != recipe:
            raise damaged_shard(path, f"rows of another recipe: {about.get('recipe')}")
        return {name: _tensor(mapped, 8 + length, entry, size) for name, entry in entries.items()}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise damaged_shard(path, f"a header that Frostline does not write: {type(error).__name__}: {error}") from error


def _tensor(mapped: Mapped, base: int, entry: dict[str, Any], size: int) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], [int(axis) for axis in entry["shape"]]
    start, end = (int(offset) for offset in entry["data_offsets"])
    count = math.prod(shape)
    if min(shape, default=0) < 0 or start < 0 or end - start != count * dtype.itemsize or base + end > size:
        raise ValueError("offsets that do not fit the file")
    if count == 0:
        return torch.empty(shape, dtype=dtype, device="cpu")
    return torch.frombuffer(mapped, dtype=torch.uint8, count=end - start, offset=base + start).view(dtype).view(shape)
