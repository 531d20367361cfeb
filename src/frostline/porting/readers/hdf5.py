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
    from collections.abc import Callable, Iterator

    import numpy as np
    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_DEPTH = 64
_MAX_OBJECTS = 100_000  # a network of 1,000 layers with the slots of an optimizer has 10,000
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
        arrays: By path, in alphabetical order.
        groups: Paths of all groups; the root is the empty path.
    """

    arrays: dict[str, Array]
    groups: tuple[str, ...]
    _texts: _Texts = field(repr=False)

    def has(self, group: str, name: str) -> bool:
        """Whether something of this name is attached to a group."""
        return self._texts.has(group, name)

    def attribute(self, group: str, name: str) -> str | list[str] | None:
        """A text, or a list of texts, that is attached to a group; None if there is none of this name.

        Raises:
            PortError: If it is damaged, or neither.
        """
        return self._texts.read(group, name)


def walk(file: WeightFile, raw: io.RawIOBase | io.BytesIO | None = None, *, most: int = MAX_TENSORS) -> Hdf5:
    """Every group and array of an HDF5 file.

    Args:
        file: The file of weights.
        raw: The HDF5 file inside of it, if it is a member of an archive.
        most: The walk ends at this number of arrays.

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
    arrays: dict[str, Array] = {}
    groups: list[str] = []
    try:
        root = h5py.File(source, "r").id
        for path, thing in _objects(file, root):
            if isinstance(thing, h5py.h5g.GroupID):
                groups.append(path)
            else:
                arrays[path] = _array(file, thing, path, size)
            if len(arrays) >= most:
                break
    except _DAMAGE as error:
        raise _damaged(file, error) from error
    check_names(file, groups[1:] + list(arrays))
    total = sum(num_bytes(file, array.shape, array.dtype) for array in arrays.values())
    if total > max(_FLOOR_BYTES, _MAX_EXPANSION * size):
        raise file.damaged(f"arrays of {total} bytes in {size}")
    return Hdf5(dict(sorted(arrays.items())), tuple(groups), _Texts(file, source, root))


def _library() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise PortError(
            what="Files in HDF5 need a package that is not installed.", where="h5py", received=str(error),
            do="pip install 'frostline[port]'",
        ) from error  # fmt: skip
    return h5py


def _objects(file: WeightFile, root: Any) -> Iterator[tuple[str, Any]]:
    """Every group and array, the root first, each reached by the only link that leads to it."""
    h5py = _library()
    yield "", h5py.h5o.open(root, b"/")
    seen = {h5py.h5o.get_info(root).addr}
    stack = [(h5py.h5o.open(root, b"/"), "", 0)]
    while stack:
        group, path, depth = stack.pop()
        if depth > _MAX_DEPTH or group.get_num_objs() + len(seen) > _MAX_OBJECTS:
            raise file.damaged(f"groups nested deeper than {_MAX_DEPTH}, or more than {_MAX_OBJECTS} objects")
        for raw_name in list(group):
            name = raw_name.decode()
            link = group.links.get_info(raw_name)
            if link.type != h5py.h5l.TYPE_HARD:
                raise _refused(file, f"{name!r} is a link to another place")
            if link.u in seen:
                raise _refused(file, f"{name!r} is a second name of one object, or a cycle")
            seen.add(link.u)
            child = h5py.h5o.open(group, raw_name)
            inner = f"{path}/{name}".lstrip("/")
            if isinstance(child, h5py.h5g.GroupID):
                stack.append((child, inner, depth + 1))
            elif not isinstance(child, h5py.h5d.DatasetID):
                raise _refused(file, f"{name!r} is neither a group nor an array")
            yield inner, child


def _array(file: WeightFile, dataset: Any, path: str, size: int) -> Array:
    """A dataset, after everything that is stated about it was compared with what the file can hold."""
    h5d, plan = _library().h5d, dataset.get_create_plist()
    layout = plan.get_layout()
    if plan.get_external_count() or layout == h5d.VIRTUAL:
        raise _refused(file, f"the bytes of {path!r} are in another file")
    filters = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())}
    if not filters <= _FILTERS:
        raise _refused(file, f"{path!r} needs the filters {sorted(filters - _FILTERS)}")
    stored_as = dataset.dtype
    dtype = _dtype(file, dataset, stored_as, path)
    if dataset.get_space().get_simple_extent_type() == _library().h5s.NULL:
        raise _refused(file, f"{path!r} is an array without a shape")
    shape = dataset.shape
    declared, stored = num_bytes(file, shape, dtype), dataset.get_storage_size()
    end = (dataset.get_offset() or 0) + stored
    largest = max(_FLOOR_BYTES, _MAX_EXPANSION * size) if filters else stored
    chunk = math.prod(plan.get_chunk()) * DTYPES[dtype].itemsize if layout == h5d.CHUNKED else 0
    if declared and (end > size or not stored or declared > largest or chunk > max(declared, _CHUNK_BYTES)):
        raise file.damaged(f"{path!r} declares {declared} bytes, and the file holds {stored} for it")
    return Array(path, shape, dtype, partial(_load, file, dataset, shape, stored_as))


def _dtype(file: WeightFile, dataset: Any, stored: np.dtype[Any], path: str) -> str:
    if stored.kind in "fiub" and stored.name in DTYPES:
        return stored.name
    # NumPy has no bfloat16: Keras stores two bytes of no type, with the name beside them.
    if stored.str == "|V2" and _Texts(file, io.BytesIO(), dataset).read("", "dtype") == "bfloat16":
        return "bfloat16"
    raise _refused(file, f"the elements of {path!r} are of the type {stored}")


def _load(file: WeightFile, dataset: Any, shape: tuple[int, ...], stored: np.dtype[Any]) -> Tensor:
    import numpy as np
    import torch

    values = np.zeros(shape, dtype=stored.newbyteorder("="))
    try:
        if values.size:
            space = _library().h5s.ALL
            dataset.read(space, space, values)
    except _DAMAGE as error:
        raise _damaged(file, error) from error
    if stored.kind == "V":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


class _Texts:
    """Reads the texts that are attached to groups and arrays, as long as they are few enough."""

    def __init__(self, file: WeightFile, raw: io.RawIOBase | io.BytesIO, root: Any) -> None:
        self._file, self._raw, self._root = file, raw, root
        self._left = _MAX_TEXT_BYTES

    def has(self, path: str, name: str) -> bool:
        """Whether something of this name is attached to what lies at a path."""
        try:
            return _library().h5a.exists(self._root, name.encode(), obj_name=path.encode() or b".")
        except _DAMAGE as error:
            raise _damaged(self._file, error) from error

    def read(self, path: str, name: str) -> str | list[str] | None:
        """A text, or a list of texts; None if there is none of this name."""
        if not self.has(path, name):
            return None
        try:
            return self._texts(_library().h5a.open(self._root, name.encode(), obj_name=path.encode() or b"."), name)
        except _DAMAGE as error:
            raise _damaged(self._file, error) from error

    def _texts(self, stored: Any, name: str) -> str | list[str]:
        import numpy as np

        shape, dtype = stored.shape, stored.dtype
        if 0 in shape:
            return []
        is_text = stored.get_type().get_class() == _library().h5t.STRING
        if not is_text or len(shape) > 1:
            raise _refused(self._file, f"the attribute {name!r} is of the type {dtype}")
        self._spend(stored.get_storage_size())
        if dtype.kind == "O" and shape:
            self._spend(self._largest() * shape[0])
        values = np.empty(shape, dtype=dtype)
        stored.read(values)
        texts = [value.decode() for value in values.reshape(-1).tolist()]
        self._spend(sum(map(len, texts)))
        return texts if shape else texts[0]

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise self._file.damaged(f"attributes of more than {_MAX_TEXT_BYTES} bytes")

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


def _refused(file: WeightFile, received: str) -> PortError:
    return file.refused(
        "The HDF5 file holds what no file of weights needs.", received,
        "do not trust this file; take it from its origin again, or save plain weights with `model.save_weights`.",
    )  # fmt: skip


def _damaged(file: WeightFile, error: BaseException) -> PortError:
    return error if isinstance(error, PortError) else file.damaged(f"HDF5: {' '.join(str(error).split())[:200]}")
