"""The records of an HDF5 file in its classic format (superblock 0 and 1, which h5py and Keras write), read with bounds.

The C library is not used: it trusts declared sizes, follows links into other files, loads plugins, and does not
terminate on a damaged heap. Reference: The HDF5 Group, HDF5 File Format Specification, version 3.0, sections II to IV.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frostline.porting.readers.tensor_data import MAX_AXES

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from frostline.core.errors import PortError
    from frostline.porting.readers.weight_file import WeightFile

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED_ADDRESS = 2**64 - 1  # the format's address for "not stored"
(SPACE, LINKS, TYPE, LINK, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, TABLE, ATTRIBUTES) = (
    0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0B, 0x0C, 0x10, 0x11, 0x15,
)  # fmt: skip
_SHARED = 0x02
_ID = struct.Struct(
    "<IQI"
)  # a string of variable length: its length, the address of its heap, and its index in the heap
_SOFT_LINK = 2
_MAX_LEVELS = 32
_MAX_RECORDS = 2_000_000  # a network of 1,000 layers with the slots of an optimizer has 100,000
_FLOATS = {  # size, position of the exponent, its bits, bits of the mantissa, bias
    (2, 10, 5, 10, 15): "float16", (4, 23, 8, 23, 127): "float32", (8, 52, 11, 52, 1023): "float64",
    (2, 7, 8, 7, 127): "bfloat16",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """The type of stored elements.

    Attributes:
        name: A name in `tensor_data.DTYPES`, `text`, `text of variable length`, `2 bytes`, or the name of another type.
        size: The size of one element in bytes.
        is_big_endian: Whether the most significant byte comes first.
    """

    name: str
    size: int
    is_big_endian: bool = False


@dataclass(frozen=True)
class Attribute:
    """A named attribute of an object; its shape is None if it has no value."""

    type: Stored
    shape: tuple[int, ...] | None
    raw: bytes


@dataclass(frozen=True)
class Object:
    """The header messages of one object, by type, its attributes, and the links of a group."""

    messages: dict[int, bytes]
    attributes: dict[str, Attribute]
    links: list[tuple[str, int]]

    @property
    def is_group(self) -> bool:
        """Whether the object is a group; otherwise it is an array or a named type."""
        return TABLE in self.messages or LINKS in self.messages


class Records:
    """Reads records. The total number of bytes read is bounded, so overlapping records cannot cost much time.

    Args:
        file: The file of weights.
        raw: The HDF5 file inside of it.

    Raises:
        PortError: If the file does not begin and end as an HDF5 file of the classic format.
    """

    def __init__(self, file: WeightFile, raw: io.RawIOBase | io.BytesIO | WeightFile) -> None:
        self._file, self._raw = file, raw
        self.size = raw.seek(0, 2)
        self._left, self._num_records = 4 * self.size + 4096, 0
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        start = self.read(0, min(self.size, 96))
        if start[:8] != SIGNATURE:
            raise file.damaged("no signature at the start")
        if len(start) < 96 or start[8] > 1 or start[13:15] != b"\x08\x08":
            raise self.newer(f"superblock {start[8] if len(start) > 8 else ''}")
        at = 24 + 4 * start[8]
        base, _, end, driver, _, self.root = struct.unpack_from("<6Q", start, at)
        if base != 0 or driver != UNDEFINED_ADDRESS or end != self.size:
            raise file.damaged(f"{self.size} bytes; the superblock states {end}")

    def damaged(self, received: str) -> PortError:
        """The error for an inconsistent file."""
        return self._file.damaged(f"HDF5: {received}")

    def refused(self, received: str) -> PortError:
        """The error for a feature that is refused for safety."""
        return self._file.refused(
            "The HDF5 file uses a feature that no file of weights needs.", received,
            "do not trust this file; fetch it again from its origin, or save plain weights with `model.save_weights`.",
        )  # fmt: skip

    def newer(self, received: str) -> PortError:
        """The error for a version of the format that Keras does not write."""
        return self._file.refused(
            "The HDF5 file is not in the format that Keras and h5py write.", received,
            "write it again with h5py, without `libver` and `track_order`, or with `model.save_weights` of Keras.",
        )  # fmt: skip

    def read(self, at: int, count: int) -> bytes:
        """The bytes of a record; the total over all records is bounded."""
        self._left -= count
        if self._left < 0:
            raise self.damaged("overlapping records")
        return self.content(at, count)

    def content(self, at: int, count: int) -> bytes:
        """The bytes of an array."""
        self._check_range(at, count)
        self._raw.seek(at)
        found = self._raw.read(count) or b""
        if len(found) != count:
            raise self._shortened()
        return found

    def array(self, at: int, count: int) -> np.ndarray:
        """As `content`, in memory of its own."""
        self._check_range(at, count)
        found = np.empty(count, np.uint8)
        self._raw.seek(at)
        if self._raw.readinto(found.data) != count:
            raise self._shortened()
        return found

    def _check_range(self, at: int, count: int) -> None:
        if at + count > self.size or count < 0:
            raise self.damaged(f"bytes {at} to {at + count} are referred to, but there are {self.size}")

    def _shortened(self) -> PortError:
        return self.damaged("the file became shorter while it was read")

    def count(self, records: int = 1) -> None:
        """Count records of any kind, and refuse files with too many of them."""
        self._num_records += records
        if self._num_records > _MAX_RECORDS:
            raise self.damaged(f"more than {_MAX_RECORDS} records")

    def messages(self, at: int) -> Iterator[tuple[int, bytes]]:
        """Type and content of each message of an object's header."""
        version, _, _, _, size = struct.unpack("<BBHII", self.read(at, 12))
        if version != 1:
            raise self.newer("an object with a header of another version than 1")
        blocks = [(at + 16, size)]
        while blocks:
            start, size = blocks.pop(0)
            block, place = self.read(start, size), 0
            while place + 8 <= size:
                self.count()
                kind, length, flags = struct.unpack_from("<HHB", block, place)
                content = block[place + 8 : place + 8 + length]
                if len(content) < length:
                    raise self.damaged("a header message that is longer than its block")
                if flags & _SHARED:
                    raise self.refused("a type that several arrays share")
                if kind == CONTINUATION:
                    following, size_there = self.unpack("<2Q", content)
                    blocks.append((following, size_there))
                yield kind, content
                place += 8 + length

    def unpack(self, form: str, content: bytes, at: int = 0) -> tuple[int, ...]:
        """The numbers of a message.

        Raises:
            PortError: If the message is too short.
        """
        if at + struct.calcsize(form) > len(content):
            raise self.damaged("a header message that is too short")
        return struct.unpack_from(form, content, at)

    def entries(self, table: bytes) -> Iterator[tuple[str, int]]:
        """Name and address of each object of a group, from the message `TABLE`."""
        tree, heap = self.unpack("<2Q", table)
        mark, _, size, _, start = struct.unpack("<4s4s3Q", self.read(heap, 32))
        if mark != b"HEAP":
            raise self.damaged("a group whose heap of names has no signature")
        names = self.read(start, size)
        for _, node in self.tree(tree, 0, 8):
            mark, _, _, count = struct.unpack("<4sBBH", self.read(node, 8))
            if mark != b"SNOD":
                raise self.damaged("a symbol table node without its signature")
            for name_at, address, kind, *_ in struct.iter_unpack("<2Q2I16s", self.read(node + 8, 40 * count)):
                self.count()
                end = names.find(b"\0", name_at)
                if end < 0:
                    raise self.damaged("a name without a terminating zero")
                name = self.text(names[name_at:end])
                if kind == _SOFT_LINK:
                    raise self.refused(f"{name!r} is a soft or external link")
                yield name, address

    def tree(self, root: int, kind: int, key_size: int) -> Iterator[tuple[bytes, int]]:
        """Key and address of each leaf entry of a B-tree (version 1)."""
        nodes = [(root, _MAX_LEVELS)]
        while nodes:
            at, limit = nodes.pop()
            mark, found, level, count = struct.unpack("<4s2BH", self.read(at, 8))
            if mark != b"TREE" or found != kind or level >= limit:
                raise self.damaged("a B-tree node without its signature, or of another kind or level than expected")
            self.count(count)
            raw = self.read(at + 24, count * (key_size + 8))
            pairs = [
                (raw[place : place + key_size], int.from_bytes(raw[place + key_size : place + key_size + 8], "little"))
                for place in range(0, len(raw), key_size + 8)
            ]
            if level == 0:
                yield from pairs
            else:
                nodes += [(child, level) for _, child in reversed(pairs)]

    def link(self, content: bytes) -> tuple[str, int]:
        """Name and address of one object, from the message `LINK`."""
        _, flags = self.unpack("<2B", content)
        at = 2
        kind = 0
        if flags & 8:
            (kind,) = self.unpack("<B", content, at)
            at += 1
        at += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        width = 1 << (flags & 3)
        length = int.from_bytes(content[at : at + width], "little")
        name = self.text(content[at + width : at + width + length])
        if kind != 0:
            raise self.refused(f"{name!r} is a soft or external link")
        return name, self.unpack("<Q", content, at + width + length)[0]

    def shape(self, content: bytes) -> tuple[int, ...] | None:
        """The shape in a message `SPACE`; None for a null dataspace."""
        version, rank, _, kind = self.unpack("<4B", content)
        if version not in (1, 2) or rank > MAX_AXES:
            raise self.damaged(f"a shape of {rank} axes, version {version}")
        if version == 2 and kind == 2:
            return None
        return self.unpack(f"<{rank}Q", content, 8 if version == 1 else 4)

    def type(self, content: bytes) -> Stored:
        """The type in a message `TYPE`."""
        head, flags, size = self.unpack("<B3xI", content)[0], content[1], self.unpack("<I", content, 4)[0]
        kind = head & 15
        if kind == 0:
            offset, precision = self.unpack("<2H", content, 8)
            if offset == 0 and precision == 8 * size and size in (1, 2, 4, 8):
                return Stored(f"{'' if flags & 8 else 'u'}int{8 * size}", size, bool(flags & 1))
        if kind == 1:
            _, _, place, bits, _, mantissa, bias = self.unpack("<2H4BI", content, 8)
            name = _FLOATS.get((size, place, bits, mantissa, bias))
            if name is not None and not flags & 0x40:
                return Stored(name, size, bool(flags & 1))
        if kind == 3:
            return Stored("text", size)
        if kind == 5:
            return Stored(f"{size} bytes", size)
        if kind == 8 and size == 1 and b"FALSE\0" in content and b"TRUE\0" in content:
            return Stored("bool", size)
        if kind == 9 and flags & 15 == 1:
            return Stored("text of variable length", size)
        names = {0: "integer", 1: "float", 4: "bits", 6: "compound", 7: "reference", 8: "enumeration", 9: "sequence"}
        return Stored(f"{names.get(kind, 'unknown')} of {size} bytes", size)

    def text(self, raw: bytes) -> str:
        """A name or string in UTF-8."""
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"a string that is not UTF-8: {raw[:40]!r}") from error

    def texts(self, name: str, attribute: Attribute, most: int) -> list[str]:
        """The strings of an attribute, with at most `most` characters in total."""
        count = 0 if attribute.shape is None else math.prod(attribute.shape)
        if count == 0:
            return []
        size = attribute.type.size
        if count * size > len(attribute.raw) or size == 0:
            raise self.damaged(f"the attribute {name!r} is longer than its header message")
        parts = [attribute.raw[place : place + size] for place in range(0, count * size, size)]
        is_long = attribute.type.name == "text of variable length" and size == _ID.size
        if len(attribute.shape or ()) > 1 or not (is_long or attribute.type.name == "text"):
            raise self.refused(f"the attribute {name!r} is of the type {attribute.type.name}")
        if not is_long:
            return [self.text(part.rstrip(b"\0")) for part in parts]
        ids = [_ID.unpack(part) for part in parts]
        if sum(length for length, _, _ in ids) > most:
            raise self.damaged(f"attributes with strings of more than {most} bytes")
        return [self._long_text(heap, index, length) if length else "" for length, heap, index in ids]

    def _long_text(self, heap: int, index: int, length: int) -> str:
        """A string of variable length, from its heap."""
        if heap not in self._heaps:
            self._heaps[heap] = self._heap(heap)
        at, size = self._heaps[heap].get(index, (0, -1))
        if length > size:
            raise self.damaged("a string that is not in its heap")
        return self.text(self.content(at, length))

    def _heap(self, at: int) -> dict[int, tuple[int, int]]:
        """Offset and size of each object in a global heap."""
        mark, version, size = struct.unpack("<4sB3xQ", self.read(at, 16))
        if mark != b"GCOL" or version != 1:
            raise self.damaged("a global heap without its signature")
        raw, place = self.read(at, size), 16
        found: dict[int, tuple[int, int]] = {}
        while place + 16 <= size:
            self.count()
            index, _, length = struct.unpack_from("<HH4xQ", raw, place)
            if index == 0:
                break
            if place + 16 + length > size:
                raise self.damaged("a string that is longer than its heap")
            found[index] = (at + place + 16, length)
            place += 16 + (length + 7) // 8 * 8
        return found
