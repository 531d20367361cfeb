"""The arrays of an HDF5 file, contiguous or chunked; declared sizes are compared with the stored bytes."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from frostline.porting.readers import hdf5_records
from frostline.porting.readers.hdf5_records import UNDEFINED_ADDRESS, Object, Records
from frostline.porting.readers.tensor_data import DTYPES, num_bytes, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

_DEFLATE, _SHUFFLE = 1, 2  # other filters are rare, or plugins, which are foreign code
# Zeros compress 1000:1, so a small file may expand more (FLOOR_BYTES); 10 MB that expand to 10 GB are a zip bomb.
MAX_EXPANSION = 100
FLOOR_BYTES = 1 << 26
_CHUNK_BYTES = 1 << 22
_INLINE, _WHOLE, _CHUNKED, _VIRTUAL = range(4)  # the layout classes of arrays
_CLASSIC_LAYOUT = 3
_FIRST_PLUGIN = 256  # filters with smaller numbers have no name


@dataclass(frozen=True)
class Array:
    """One array of an HDF5 file.

    Attributes:
        path: The names of its groups and its own, joined by `/`.
        shape: Its shape.
        dtype: A name in `tensor_data.DTYPES`.
        load: Reads the array.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Tensor] = field(compare=False, repr=False)


@dataclass(frozen=True)
class _Chunks:
    """The chunks of an array: the range of their bytes and the skipped filters, by the index of their first element."""

    shape: tuple[int, ...]
    places: dict[tuple[int, ...], tuple[int, int, int]]


def array_of(file: WeightFile, records: Records, found: Object, path: str) -> Array:
    """The array of an object; its declared shape, type and layout are compared with the stored bytes."""
    if not {hdf5_records.SPACE, hdf5_records.TYPE} <= found.messages.keys():
        raise records.damaged(f"{path!r} without a shape or a type")
    layout = found.messages[hdf5_records.LAYOUT]
    version, kind = records.unpack("<2B", layout)
    if hdf5_records.EXTERNAL in found.messages or kind == _VIRTUAL:
        raise records.refused(f"{path!r} has its bytes in another file")
    filters = _filters(records, found.messages.get(hdf5_records.FILTERS))
    if not set(filters) <= {_DEFLATE, _SHUFFLE}:
        raise records.refused(f"{path!r} needs the filters {sorted(set(filters) - {_DEFLATE, _SHUFFLE})}")
    stored, shape = records.type(found.messages[hdf5_records.TYPE]), records.shape(found.messages[hdf5_records.SPACE])
    if shape is None:
        raise records.refused(f"{path!r} has a null dataspace")
    dtype = stored.name
    # h5py has no bfloat16: Keras stores opaque elements of two bytes, and the dtype in an attribute.
    if dtype == "2 bytes" and "dtype" in found.attributes:
        named = records.texts("dtype", found.attributes["dtype"], 100)
        dtype = "bfloat16" if named == ["bfloat16"] else dtype
    if dtype not in DTYPES:
        raise records.refused(f"{path!r} has elements of the type {stored.name}")
    declared = num_bytes(file, shape, dtype)
    if kind == _CHUNKED:
        if version != _CLASSIC_LAYOUT:
            raise records.newer(f"the chunks of {path!r}")
        chunks = _chunks(records, layout, shape, stored.size)
        held = sum(size for _, size, _ in chunks.places.values())
        number = math.prod(-(-whole // part) for whole, part in zip(shape, chunks.shape, strict=True))
        most = max(FLOOR_BYTES, MAX_EXPANSION * records.size) if filters else held
        is_whole = len(chunks.places) == number and math.prod(chunks.shape) * stored.size <= max(declared, _CHUNK_BYTES)
        read = partial(_joined, records, chunks, shape, stored.size, filters)
    else:
        at, held, inline = _plain(records, version, kind, layout)
        most, is_whole = held, not filters
        read = partial(_slice, records, at, declared, inline)
    if declared and (declared > most or not is_whole):
        raise records.damaged(f"{path!r} declares {declared} bytes, of which the file contains {held}")
    return Array(path, shape, dtype, partial(_load, file, read, declared, shape, dtype, stored.is_big_endian))


def _filters(records: Records, content: bytes | None) -> list[int]:
    """The numbers of the filters of the chunks, in order."""
    if content is None:
        return []
    version, count = records.unpack("<2B", content)
    at, found = 8 if version == 1 else 2, list[int]()
    for _ in range(count):
        (number,) = records.unpack("<H", content, at)
        has_name = version == 1 or number >= _FIRST_PLUGIN
        length = records.unpack("<H", content, at + 2)[0] if has_name else 0
        at += 4 if has_name else 2
        _, values = records.unpack("<2H", content, at)
        at += 4 + (length + 7) // 8 * 8 if version == 1 else 4 + length
        at += 4 * (values + values % 2 if version == 1 else values)
        found.append(number)
    return found


def _plain(records: Records, version: int, kind: int, layout: bytes) -> tuple[int, int, bytes | None]:
    """Offset and size of a contiguous array, or the bytes themselves for one that is stored in its header."""
    if version not in (_CLASSIC_LAYOUT, _CLASSIC_LAYOUT + 1):
        raise records.newer(f"an array with a layout message of version {version}")
    if kind == _INLINE:
        (size,) = records.unpack("<H", layout, 2)
        return 0, min(size, len(layout) - 4), layout[4 : 4 + size]
    if kind != _WHOLE:
        raise records.damaged(f"an array of the unknown layout class {kind}")
    at, size = records.unpack("<2Q", layout, 2)
    return (0, 0, None) if at == UNDEFINED_ADDRESS or at + size > records.size else (at, size, None)


def _chunks(records: Records, layout: bytes, shape: tuple[int, ...], size: int) -> _Chunks:
    rank, tree = records.unpack("<BQ", layout, 2)
    *chunk, element = records.unpack(f"<{rank}I", layout, 11)
    if len(chunk) != len(shape) or not shape or element != size or 0 in chunk:
        raise records.damaged(f"chunks of the shape {chunk}")
    places: dict[tuple[int, ...], tuple[int, int, int]] = {}
    for key, at in records.tree(tree, 1, 8 + 8 * rank) if tree != UNDEFINED_ADDRESS else ():
        count, mask, *place = records.unpack(f"<2I{rank}Q", key)
        first = tuple(place[:-1])
        is_in_grid = all(at % part == 0 and at < whole for at, part, whole in zip(first, chunk, shape, strict=True))
        if not is_in_grid or first in places or at + count > records.size:
            raise records.damaged(f"a chunk of {count} bytes at {first}")
        places[first] = (at, count, mask)
    return _Chunks(tuple(chunk), places)


def _slice(records: Records, at: int, count: int, inline: bytes | None) -> bytes | np.ndarray:
    return records.array(at, count) if inline is None else inline[:count]


def _joined(records: Records, chunks: _Chunks, shape: tuple[int, ...], size: int, filters: list[int]) -> bytes:
    """The elements of a chunked array, in order."""
    import numpy as np

    whole = np.zeros(shape, dtype=f"V{size}")
    expected = math.prod(chunks.shape) * size
    for first, (at, count, mask) in chunks.places.items():
        raw = records.content(at, count)
        for number in reversed(range(len(filters))):
            if not mask >> number & 1:
                raw = _inflated(records, raw, expected) if filters[number] == _DEFLATE else _unshuffled(raw, size)
        if len(raw) != expected:
            raise records.damaged(f"a chunk of {len(raw)} bytes instead of {expected}")
        part = np.frombuffer(raw, dtype=f"V{size}").reshape(chunks.shape)
        target = tuple(slice(start, start + length) for start, length in zip(first, chunks.shape, strict=True))
        place = whole[target]
        place[...] = part[tuple(slice(0, length) for length in place.shape)]
    return whole.tobytes()


def _inflated(records: Records, raw: bytes, expected: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(raw, expected + 1)
    except zlib.error as error:
        raise records.damaged(f"a chunk that cannot be decompressed: {error}") from error
    if not unpacker.eof:
        raise records.damaged("a compressed chunk with another size than its array states")
    return found


def _unshuffled(raw: bytes, size: int) -> bytes:
    """Undo the shuffle filter, which groups bytes of equal significance."""
    import numpy as np

    count = len(raw) // size
    return np.frombuffer(raw, np.uint8)[: count * size].reshape(size, count).T.tobytes() + raw[count * size :]


def _load(
    file: WeightFile,
    read: Callable[[], bytes | np.ndarray],
    declared: int,
    shape: tuple[int, ...],
    dtype: str,
    is_big_endian: bool,
) -> Tensor:
    return tensor_of(file, read() if declared else b"", shape, dtype, is_big_endian=is_big_endian)
