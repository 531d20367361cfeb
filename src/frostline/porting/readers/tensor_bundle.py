"""TensorFlow checkpoints of version 2: an index, and the data files that it names.

The CRC-32C of every tensor in the index is verified when the tensor is loaded.

References:
    TensorFlow, `core/protobuf/tensor_bundle.proto`, `core/util/tensor_bundle/tensor_bundle.cc`,
    `core/util/saved_tensor_slice_util.cc` and `core/lib/strings/ordered_code.cc` (the keys of slices).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from frostline.porting.readers.crc32c import crc32c, unmasked
from frostline.porting.readers.leveldb import table
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.tensor_data import DTYPES, num_bytes, tensor_of
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

# TensorFlow's DataType (`core/framework/types.proto`), for the dtypes that weights can have.
DTYPE_NAMES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64", 10: "bool",
    11: "int8", 12: "uint8", 13: "int32", 14: "bfloat16", 15: "int16", 16: "uint16", 17: "uint16", 18: "complex128",
    19: "float16", 22: "uint32", 23: "uint64", 24: "float8_e5m2", 25: "float8_e4m3fn",
}  # fmt: skip
DT_STRING = 7
_WHOLE = (0, -1)  # start and length of a slice on an axis that is not divided
_MAX_SLICES = 500
_MAX_SHARDS = 100_000


@dataclass(frozen=True)
class Entry:
    """The location of one tensor.

    Attributes:
        key: Its name.
        dtype: The number of its dtype; one that is not in `DTYPE_NAMES` is not a weight.
        shape: Its shape.
        shard: The number of its data file.
        offset: Its offset in the data file.
        size: Its size in bytes.
        crc: The CRC-32C of its bytes.
        slices: If it is stored in slices: start and length of each slice on each axis, length -1 for a whole axis.
        raw: Returns its bytes if they are in the index itself, whose blocks have CRCs of their own.
    """

    key: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[tuple[tuple[int, int], ...], ...] = ()
    raw: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Bundle:
    """The index of a checkpoint.

    Attributes:
        file: The index.
        stem: The prefix of the names of the data files.
        num_shards: The number of data files.
        is_big_endian: Whether numbers in the data files are big-endian.
        entries: Every tensor, by name.
        parts: The slices of divided tensors, by their key in the index.
        shards: The data files, closed; they must not change after the index was read.
    """

    file: WeightFile
    stem: str
    num_shards: int
    is_big_endian: bool
    entries: dict[str, Entry]
    parts: dict[bytes, Entry] = field(repr=False)
    shards: dict[int, WeightFile] = field(default_factory=dict, repr=False)

    def load(self, entry: Entry) -> Tensor:
        """Load a tensor; its CRC is verified."""
        if not entry.slices:
            raw = entry.raw() if entry.raw is not None else self._array(entry)
            if entry.raw is None:
                self._check(entry, crc32c(raw))
            name = DTYPE_NAMES[entry.dtype]
            return tensor_of(self.file, raw, entry.shape, name, is_big_endian=self.is_big_endian)
        whole = torch.empty(entry.shape, dtype=DTYPES[DTYPE_NAMES[entry.dtype]])
        for extents in entry.slices:
            place = tuple(slice(start, start + length) for start, length in _resolved(extents, entry.shape))
            whole[place] = self.load(self.parts[slice_key(entry.key, extents)])
        return whole

    def text(self, key: str) -> bytes:
        """The bytes of a scalar string tensor; its checksums are verified.

        The data file contains the length as a varint, its CRC, and the bytes. The CRC in the index covers the length as
        four bytes and everything after it.
        """
        entry = self.entries[key]
        raw = self.stored(entry)
        length, after = Wire(self.file, raw).varint(0, len(raw))
        if entry.shape != () or length != len(raw) - after - 4 or length >= 1 << 32:
            raise self.file.damaged(f"the string {key!r} of {length} bytes, stored in {len(raw)} bytes")
        check = crc32c(length.to_bytes(4, "little"))
        if check != unmasked(int.from_bytes(raw[after : after + 4], "little")):
            raise self.file.damaged(f"the length of the string {key!r} does not match its stored CRC")
        self._check(entry, crc32c(raw[after:], check))
        return raw[after + 4 :]

    def stored(self, entry: Entry) -> bytes:
        """The bytes of an entry in its data file."""
        with neighbour(self.file, self.shard_name(entry), self.shards.get(entry.shard)) as shard:
            return shard.read_at(entry.offset, entry.size)

    def _array(self, entry: Entry) -> np.ndarray:
        """As `stored`, in memory of its own."""
        with neighbour(self.file, self.shard_name(entry), self.shards.get(entry.shard)) as shard:
            return shard.array_at(entry.offset, entry.size)

    def shard_name(self, entry: Entry) -> str:
        """The name of the data file of an entry."""
        return f"{self.stem}.data-{entry.shard:05d}-of-{self.num_shards:05d}"

    def _check(self, entry: Entry, crc: int) -> None:
        if crc != entry.crc:
            raise self.file.damaged(f"the bytes of {entry.key!r} do not match their CRC-32C in the index")


def bundle(file: WeightFile, rows: dict[bytes, bytes] | None = None) -> Bundle:
    """Read the index of a checkpoint.

    Args:
        file: The `.index` file.
        rows: Its table, if that was read before.

    Raises:
        PortError: If the index is damaged, or a data file is too short.
    """
    rows = table(file) if rows is None else dict(rows)
    if b"" not in rows:
        raise file.damaged("a table without the header entry of a checkpoint")
    header = Wire(file, rows.pop(b"")).message()
    num_shards = header.integer(1)
    if not 0 < num_shards <= _MAX_SHARDS:
        raise file.damaged(f"a checkpoint with {num_shards} data files")
    entries: dict[str, Entry] = {}
    parts: dict[bytes, Entry] = {}
    for key, row in rows.items():
        entry = _entry(file, key, Wire(file, row).message())
        if key.startswith(b"\0"):
            parts[key] = entry
        else:
            entries[entry.key] = entry
    found = Bundle(file, file.path.name.removesuffix(".index"), num_shards, header.integer(2) == 1, entries, parts)
    _check_places(found)
    for entry in entries.values():
        check_slices(found, entry)
    return found


def slice_key(name: str, extents: tuple[tuple[int, int], ...]) -> bytes:
    """The key of one slice of a tensor in the index."""
    escaped = name.encode().replace(b"\xff", b"\xff\0").replace(b"\0", b"\0\xff")
    key = b"\0" + escaped + b"\0\x01" + (bytes([1, len(extents)]) if extents else b"\0")
    return key + b"".join(_ordered(value) for extent in extents for value in extent)


def _resolved(extents: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((0, size) if extent == _WHOLE else extent for extent, size in zip(extents, shape, strict=True))


def _ordered(value: int) -> bytes:
    """A signed number in TensorFlow's ordered code, whose bytes sort as the numbers; leading ones count its bytes."""
    width = (~value if value < 0 else value).bit_length() // 7 + 1
    leading = ((1 << width) - 1) << (7 * width)
    return ((value & ((1 << 8 * width) - 1)) ^ leading & ((1 << 8 * width) - 1)).to_bytes(width, "big")


def _entry(file: WeightFile, key: bytes, message: Message) -> Entry:
    name = key.decode(errors="replace")
    if "\ufffd" in name and not key.startswith(b"\0"):
        raise file.damaged(f"a tensor with the name {key[:60]!r}")
    shape, slices = shape_of(message.message(2)), tuple(extents_of(part) for part in message.messages(7))
    return Entry(
        name, message.integer(1), shape, message.integer(3), message.integer(4), message.integer(5),
        unmasked(message.fixed32(6)), slices,
    )  # fmt: skip


def shape_of(message: Message | None) -> tuple[int, ...]:
    """The shape in a TensorShapeProto."""
    return tuple(axis.integer(1) for axis in message.messages(2)) if message is not None else ()


def extents_of(message: Message) -> tuple[tuple[int, int], ...]:
    """Start and length on each axis in a TensorSliceProto."""
    return tuple((extent.integer(1), extent.integer(2)) if extent.has(2) else _WHOLE for extent in message.messages(1))


def _check_places(found: Bundle) -> None:
    """Check that the size of each tensor fits its shape, and that its data file exists and is long enough."""
    file = found.file
    for entry in itertools.chain(found.entries.values(), found.parts.values()):
        if entry.dtype in DTYPE_NAMES:
            expected = num_bytes(file, entry.shape, DTYPE_NAMES[entry.dtype])
            if not entry.slices and entry.size != expected:
                raise file.damaged(f"{entry.key!r} of shape {entry.shape} has {entry.size} bytes instead of {expected}")
        if entry.slices:
            continue
        if not 0 <= entry.shard < found.num_shards:
            raise file.damaged(f"{entry.key!r} in the data file {entry.shard} of {found.num_shards}")
        if entry.shard not in found.shards:
            with neighbour(file, found.shard_name(entry)) as shard:
                found.shards[entry.shard] = shard
        size = found.shards[entry.shard].size
        if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > size:
            end = entry.offset + entry.size
            raise file.damaged(f"{entry.key!r} ends at byte {end}, but its data file has {size} bytes")


def check_slices(found: Bundle, entry: Entry) -> None:
    """Check that all slices of a tensor exist, and cover it exactly once."""
    if not entry.slices:
        return
    if len(entry.slices) > _MAX_SLICES:
        raise found.file.damaged(f"{entry.key!r} in {len(entry.slices)} slices")
    if any(len(extents) != len(entry.shape) for extents in entry.slices):
        raise found.file.damaged(f"{entry.key!r} of shape {entry.shape} in slices with other axes")
    places = [_resolved(extents, entry.shape) for extents in entry.slices]
    for extents, place in zip(entry.slices, places, strict=True):
        part = found.parts.get(slice_key(entry.key, extents))
        lengths = tuple(length for _, length in place)
        if part is None or part.slices or (part.dtype, part.shape) != (entry.dtype, lengths):
            raise found.file.damaged(f"the slice {extents} of {entry.key!r} of shape {entry.shape} is missing")
    is_inside = all(
        start >= 0 and length > 0 and start + length <= size
        for place in places
        for (start, length), size in zip(place, entry.shape, strict=True)
    )
    total = sum(math.prod(length for _, length in place) for place in places)
    is_apart = all(
        any(a + n <= b or b + m <= a for (a, n), (b, m) in zip(one, other, strict=True))
        for one, other in itertools.combinations(places, 2)
    )
    if not is_inside or not is_apart or total != math.prod(entry.shape):
        raise found.file.damaged(f"the slices of {entry.key!r} overlap, or do not cover the tensor")
