"""HDF5 without its trapdoors: groups and plain arrays that lie in the file itself, reached by hard links only."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from frostline.core.errors import PortError
from frostline.porting.readers.arrays import DTYPES, MAX_TENSORS, check_names, num_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_DEPTH = 64
# Texts may all point to one place, so that a small file can state a large sum of them.
_MAX_TEXT_BYTES = 1 << 28
# deflate, shuffle, checksum, and h5py's own LZF; others are plugins, that is, code from elsewhere.
_FILTERS = {1, 2, 3, 32000}
# Arrays of zeros pack at 1000 to 1, and a small file of them is no bomb; a file of 10 MB that holds 10 GB is.
_MAX_EXPANSION = 100
_FLOOR_BYTES = 1 << 26
# Texts of variable length lie in heaps that begin with a mark, a version, and their size.
_HEAP_MARK = b"GCOL\1\0\0\0"
_HEAP = struct.Struct("<8sQ")
_CHUNK_BYTES = 1 << 22
_SMALL_BYTES = 1 << 16
# What h5py raises for files that contradict themselves.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, NotImplementedError)


@dataclass(frozen=True)
class Array:
    """One array of an HDF5 file.

    Attributes:
        path: The names of its groups and its own, joined by `/`.
        shape: Its shape.
        dtype: A name in `arrays.DTYPES`.
        load: Reads it.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Tensor] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Hdf5:
    """An HDF5 file that was walked from end to end.

    Attributes:
        arrays: By path, in the order of the file (alphabetical).
        groups: Paths of all groups; the root is the empty path.
    """

    arrays: dict[str, Array]
    groups: tuple[str, ...]
    _root: Any = field(repr=False)
    _texts: _Texts = field(repr=False)

    def has(self, group: str, name: str) -> bool:
        """Whether something of this name is attached to a group."""
        try:
            return name in self._root[group or "/"].attrs
        except _DAMAGE as error:
            raise _damaged(self._texts.file, error) from error

    def attribute(self, group: str, name: str) -> str | list[str] | None:
        """A text, or a list of texts, that is attached to a group; None if there is none of this name.

        Raises:
            PortError: If it is damaged, or neither.
        """
        try:
            return self._texts.read(self._root[group or "/"].attrs, name)
        except _DAMAGE as error:
            raise _damaged(self._texts.file, error) from error


def walk(file: WeightFile, raw: io.RawIOBase | io.BytesIO | None = None) -> Hdf5:
    """Every group and array of an HDF5 file.

    Args:
        file: The file of weights.
        raw: The HDF5 file inside of it, if it is a member of an archive.

    Raises:
        PortError: If it is damaged, or holds what no file of weights needs: links into other files, arrays whose bytes
            are elsewhere, filters that are not part of HDF5, arrays far larger than their bytes.
    """
    h5py = _library()
    source = raw or file
    source.seek(0)
    if source.read(len(SIGNATURE)) != SIGNATURE:
        raise file.damaged("no HDF5 signature at its start")
    size = source.seek(0, 2)
    try:
        root = h5py.File(source, "r")
        arrays: dict[str, Array] = {}
        groups = [""]
        seen = {_address(root)}
        stack = [(root, "", 0)]
        while stack:
            group, path, depth = stack.pop()
            if depth > _MAX_DEPTH or group.id.get_num_objs() + len(seen) > MAX_TENSORS:
                raise file.damaged(f"groups nested deeper than {_MAX_DEPTH}, or more than {MAX_TENSORS} objects")
            for name in list(group):
                child = _child(file, group, name, seen)
                inner = f"{path}/{name}".lstrip("/")
                if isinstance(child, h5py.Group):
                    groups.append(inner)
                    stack.append((child, inner, depth + 1))
                else:
                    arrays[inner] = _array(file, child, inner, size)
    except _DAMAGE as error:
        raise _damaged(file, error) from error
    check_names(file, groups[1:] + list(arrays))
    total = sum(num_bytes(file, array.shape, array.dtype) for array in arrays.values())
    if total > max(_FLOOR_BYTES, _MAX_EXPANSION * size):
        raise file.damaged(f"arrays of {total} bytes in {size}")
    return Hdf5(dict(sorted(arrays.items())), tuple(groups), root, _Texts(file, source))


def _library() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise PortError(
            what="Files in HDF5 need a package that is not installed.", where="h5py", received=str(error),
            do="pip install 'frostline[port]'",
        ) from error  # fmt: skip
    return h5py


def _address(thing: Any) -> tuple[int, int]:
    import h5py

    info = h5py.h5o.get_info(thing.id)
    return info.fileno, info.addr


def _child(file: WeightFile, group: Any, name: str, seen: set[tuple[int, int]]) -> Any:
    """The group or array of this name, reached by the only link that leads to it."""
    import h5py

    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise _refused(file, f"{name!r} is a link to another place ({type(link).__name__})")
    child = group[name]
    if not isinstance(child, (h5py.Group, h5py.Dataset)):
        raise _refused(file, f"{name!r} is neither a group nor an array")
    address = _address(child)
    if address in seen:
        raise _refused(file, f"{name!r} is a second name of one object, or a cycle")
    seen.add(address)
    return child


def _array(file: WeightFile, dataset: Any, path: str, size: int) -> Array:
    """A dataset, after everything that is stated about it was compared with what the file can hold."""
    layout = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual:
        raise _refused(file, f"the bytes of {path!r} are in another file")
    filters = {layout.get_filter(index)[0] for index in range(layout.get_nfilters())}
    if not filters <= _FILTERS:
        raise _refused(file, f"{path!r} needs the filters {sorted(filters - _FILTERS)}")
    dtype = _dtype(file, dataset, path)
    if dataset.shape is None:
        raise _refused(file, f"{path!r} is an array without a shape")
    declared, stored = num_bytes(file, dataset.shape, dtype), dataset.id.get_storage_size()
    end = (dataset.id.get_offset() or 0) + stored
    largest = max(_FLOOR_BYTES, _MAX_EXPANSION * size) if filters else stored
    chunk = math.prod(dataset.chunks or ()) * DTYPES[dtype].itemsize
    if declared and (end > size or not stored or declared > largest or chunk > max(declared, _CHUNK_BYTES)):
        raise file.damaged(f"{path!r} declares {declared} bytes, and the file holds {stored} for it")
    return Array(path, tuple(dataset.shape), dtype, partial(_load, file, dataset, dtype))


def _dtype(file: WeightFile, dataset: Any, path: str) -> str:
    stored = dataset.dtype
    if stored.kind in "fiub" and stored.fields is None and stored.name in DTYPES:
        return stored.name
    # NumPy has no bfloat16: Keras stores two bytes of no type, with the name beside them.
    if stored.str == "|V2" and _Texts(file, io.BytesIO()).read(dataset.attrs, "dtype") == "bfloat16":
        return "bfloat16"
    raise _refused(file, f"the elements of {path!r} are of the type {stored}")


def _load(file: WeightFile, dataset: Any, dtype: str) -> Tensor:
    import numpy as np
    import torch

    stored = dataset.dtype.newbyteorder("=")
    values = np.zeros(dataset.shape, dtype=stored)
    try:
        if values.size and values.ndim:
            dataset.read_direct(values)
        elif values.size:
            values[()] = dataset[()]
    except _DAMAGE as error:
        raise _damaged(file, error) from error
    if dtype == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


class _Texts:
    """Reads the texts that are attached to groups and arrays, as long as they are few enough."""

    def __init__(self, file: WeightFile, raw: io.RawIOBase | io.BytesIO) -> None:
        self.file, self._raw = file, raw
        self._left = _MAX_TEXT_BYTES

    def read(self, attributes: Any, name: str) -> str | list[str] | None:
        """A text, or a list of texts; None if there is none of this name."""
        if name not in attributes:
            return None
        stored = attributes.get_id(name)
        if 0 in stored.shape:
            return []
        if stored.dtype.kind not in "SO" or len(stored.shape) > 1:
            raise _refused(self.file, f"the attribute {name!r} is of the type {stored.dtype}")
        self._spend(stored.get_storage_size())
        if stored.dtype.kind == "O" and stored.shape:
            self._spend(self._largest() * stored.shape[0])
        value = attributes[name]
        texts = [_text(self.file, part, name) for part in (value if stored.shape else [value])]
        self._spend(sum(map(len, texts)))
        return texts if stored.shape else texts[0]

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise self.file.damaged(f"attributes of more than {_MAX_TEXT_BYTES} bytes")

    def _largest(self) -> int:
        """How long the longest text of variable length can be: as the largest heap of the file."""
        size = self._raw.seek(0, 2)
        if size <= _SMALL_BYTES:
            return size
        largest = 0
        for offset in range(0, size, _CHUNK_BYTES):
            self._raw.seek(offset)
            chunk = self._raw.read(_CHUNK_BYTES + _HEAP.size) or b""
            at = chunk.find(_HEAP_MARK)
            while 0 <= at <= len(chunk) - _HEAP.size:
                largest = max(largest, _HEAP.unpack_from(chunk, at)[1])
                at = chunk.find(_HEAP_MARK, at + 1)
        return largest


def _text(file: WeightFile, value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode()
    raise _refused(file, f"the attribute {name!r} is no text")


def _refused(file: WeightFile, received: str) -> PortError:
    return file.refused(
        "The HDF5 file holds what no file of weights needs.", received,
        "do not trust this file; take it from its origin again, or save plain weights with `model.save_weights`.",
    )  # fmt: skip


def _damaged(file: WeightFile, error: BaseException) -> PortError:
    return error if isinstance(error, PortError) else file.damaged(f"HDF5: {' '.join(str(error).split())[:200]}")
