"""MATLAB files of versions 5 and 7: numbers, strings, cells and structures; objects and functions are refused.

scipy is not used: it allocates declared sizes before it compares them with the size of the file.

References:
    MathWorks, "MAT-File Format", version 5.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from frostline.porting.readers.numpy_pickles import LazyArray
from frostline.porting.readers.tensor_data import DTYPES, MAX_AXES, MAX_NAME_BYTES, num_bytes, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from frostline.core.errors import PortError
    from frostline.porting.readers.weight_file import WeightFile

    Value = LazyArray | str | list[Any]

HEADER_BYTES = 128
_STORED = {
    1: "int8", 2: "uint8", 3: "int16", 4: "uint16", 5: "int32", 6: "uint32", 7: "float32", 9: "float64", 12: "int64",
    13: "uint64",
}  # fmt: skip
_CLASSES = {
    6: "float64", 7: "float32", 8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32",
    14: "int64", 15: "uint64",
}  # fmt: skip
_CELL, _STRUCT, _TEXT = 1, 2, 4
_REFUSED = {3: "an object", 5: "a sparse array", 16: "a function", 17: "an object of a class (opaque)"}
_MATRIX, _COMPRESSED = 14, 15
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_LOGICAL, _COMPLEX = 0x0200, 0x0800
_MAX_DEPTH, _MAX_MATRICES, _MAX_FIELDS = 32, 1_000_000, 4_096
_MAX_TEXT_BYTES = 1 << 20
# Zeros compress 1000:1; a file with this ratio as a whole is a zip bomb.
_MAX_EXPANSION, _FLOOR_BYTES = 100, 1 << 26


def variables(file: WeightFile) -> dict[str, Value]:
    """The variables of a file by name.

    Returns:
        Numbers as arrays; strings; cells as lists; structures as lists of dicts, one dict for each element. Cells and
        structures are in column-major order, as in MATLAB.

    Raises:
        PortError: If the file is damaged, or contains objects, functions or sparse arrays.
    """
    mark = file.read_at(HEADER_BYTES - 2, 2)
    if mark not in (b"IM", b"MI"):
        raise file.damaged(f"the unknown byte-order mark {mark!r}")
    reader = _Reader(file, is_big_endian=mark == b"MI")
    found: dict[str, Value] = {}
    at = HEADER_BYTES
    while at < file.size:
        kind, size, begin = reader.tag(file.read_at, at, file.size)
        at = begin + size
        if kind == _COMPRESSED:
            read_at, end = reader.unpacked(begin, size)
            kind, size, begin = reader.tag(read_at, 0, end)
            if begin + size != end:
                raise file.damaged(f"{end - begin - size} bytes after a compressed variable")
        else:
            read_at, at = file.read_at, at + -at % 8
        if kind != _MATRIX:
            raise file.damaged(f"an element of the type {kind} instead of a variable")
        name, value = reader.matrix(read_at, begin, size, 0)
        if name in found:
            raise file.damaged(f"two variables named {name[:60]!r}")
        found[name] = value
    return found


class _Reader:
    """Reads elements; `read_at` returns bytes of the file, or of a decompressed variable."""

    def __init__(self, file: WeightFile, *, is_big_endian: bool) -> None:
        self.file, self.is_big_endian, self.order = file, is_big_endian, ">" if is_big_endian else "<"
        self.num_matrices, self.num_unpacked = 0, 0

    def tag(self, read_at: Callable[[int, int], bytes], at: int, end: int) -> tuple[int, int, int]:
        """Type and size of an element, and the offset of its content."""
        if at + 8 > end:
            raise self.damaged("an element that ends outside of the enclosing element")
        kind, size = struct.unpack(f"{self.order}2I", read_at(at, 8))
        begin = at + 8
        if kind >> 16:  # a small element: at most four bytes, stored in the tag
            kind, size, begin = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise self.damaged(f"a small element of {size} bytes")
        if size > end - begin:
            raise self.damaged(f"an element of {size} bytes, where {end - begin} are left")
        return kind, size, begin

    def damaged(self, received: str) -> PortError:
        return self.file.damaged(received)

    def unpacked(self, begin: int, size: int) -> tuple[Callable[[int, int], bytes], int]:
        """Decompress a variable."""
        limit = max(_FLOOR_BYTES, _MAX_EXPANSION * self.file.size) - self.num_unpacked
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(self.file.read_at(begin, size), limit + 1)
        except zlib.error as error:
            raise self.damaged(f"a compressed variable: {error}") from error
        if len(content) > limit:
            raise self.damaged(
                f"variables that expand to more than {_MAX_EXPANSION} times the {self.file.size} bytes of the file"
            )
        if not unpacker.eof or unpacker.unused_data:
            raise self.damaged("a compressed variable with another size than stated")
        self.num_unpacked += len(content)
        return lambda start, count: content[start : start + count], len(content)

    def part(self, read_at: Callable[[int, int], bytes], at: int, end: int) -> tuple[int, int, int, int]:
        """Type, size and offset of an element in a variable, and the offset of the next one."""
        kind, size, begin = self.tag(read_at, at, end)
        is_small = begin == at + 4
        return kind, size, begin, at + 8 if is_small else begin + size + -size % 8

    def matrix(self, read_at: Callable[[int, int], bytes], at: int, size: int, depth: int) -> tuple[str, Value]:
        """Name and value of one array of any class."""
        self.num_matrices += 1
        if depth > _MAX_DEPTH or self.num_matrices > _MAX_MATRICES:
            raise self.damaged(f"arrays nested {depth} levels deep, {self.num_matrices} in total")
        end = at + size
        if size == 0:  # an empty field
            return "", []
        flags, at = self.integers(read_at, at, end, 6, 2)
        kind = flags[0] & 0xFF
        if kind in _REFUSED:
            raise self.file.refused(
                "The file contains a value that is not supported.", _REFUSED[kind],
                "in MATLAB, save the arrays alone: net.layers as a cell of structures, full(x) for a sparse x.",
            )  # fmt: skip
        shape, at = self.integers(read_at, at, end, 5, MAX_AXES)
        name, at = self.text(read_at, at, end, MAX_NAME_BYTES)
        if any(one < 0 for one in shape) or len(shape) < 2:
            raise self.damaged(f"an array of the shape {shape[:8]}")
        if kind in _CLASSES:
            return name, self.array(read_at, at, end, tuple(shape), flags[0])
        if kind == _TEXT:
            return name, self.text(read_at, at, end, _MAX_TEXT_BYTES)[0]
        count = num_bytes(self.file, shape, "int8")
        if kind == _CELL:
            return name, self.matrices(read_at, at, end, count, depth)[0]
        if kind == _STRUCT:
            return name, self.structures(read_at, at, end, count, depth)
        raise self.damaged(f"an array of the class {kind}")

    def integers(
        self, read_at: Callable[[int, int], bytes], at: int, end: int, kind: int, limit: int
    ) -> tuple[list[int], int]:
        found, size, begin, at = self.part(read_at, at, end)
        if found != kind or size % 4 or not 0 < size <= 4 * limit:
            raise self.damaged(f"an array without its header (an element of the type {found} with {size} bytes)")
        letter = "i" if kind == 5 else "I"
        return list(struct.unpack(f"{self.order}{size // 4}{letter}", read_at(begin, size))), at

    def text(self, read_at: Callable[[int, int], bytes], at: int, end: int, limit: int) -> tuple[str, int]:
        kind, size, begin, at = self.part(read_at, at, end)
        if kind not in _ENCODINGS or size > limit:
            raise self.damaged(f"a string of the type {kind} with {size} bytes")
        encoding = _ENCODINGS[kind]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-be" if self.is_big_endian else "-le"
        return read_at(begin, size).decode(encoding, errors="replace"), at

    def matrices(
        self, read_at: Callable[[int, int], bytes], at: int, end: int, count: int, depth: int
    ) -> tuple[list[Any], int]:
        """`count` arrays, one after the other."""
        if count > (end - at) // 8:
            raise self.damaged(f"{count} arrays in {end - at} bytes")
        found: list[Any] = []
        for _ in range(count):
            kind, size, begin, at = self.part(read_at, at, end)
            if kind != _MATRIX:
                raise self.damaged(f"an element of the type {kind} instead of an array")
            found.append(self.matrix(read_at, begin, size, depth + 1)[1])
        return found, at

    def structures(
        self, read_at: Callable[[int, int], bytes], at: int, end: int, count: int, depth: int
    ) -> list[dict[str, Any]]:
        (width,), at = self.integers(read_at, at, end, 5, 1)
        kind, size, begin, at = self.part(read_at, at, end)
        if kind != 1 or not 0 < width <= 64 or size % width or size // width > _MAX_FIELDS:
            raise self.damaged(f"a structure whose names take {size} bytes of {width} each")
        raw = read_at(begin, size)
        names = [raw[one : one + width].split(b"\0")[0].decode("latin-1") for one in range(0, size, width)]
        if len(set(names)) != len(names) or (not names and count > 1):
            raise self.damaged("a structure with two fields of the same name")
        if names:
            values, _ = self.matrices(read_at, at, end, count * len(names), depth)
        else:
            values = []
        return [dict(zip(names, values[one:], strict=False)) for one in range(0, len(values), max(1, len(names)))]

    def array(
        self, read_at: Callable[[int, int], bytes], at: int, end: int, shape: tuple[int, ...], flags: int
    ) -> LazyArray:
        """A numeric array; its numbers may be stored in a narrower type than that of the array."""
        if flags & _COMPLEX:
            raise self.damaged("an array of complex numbers, which no MatConvNet network contains")
        kind, size, begin, _ = self.part(read_at, at, end)
        stored = _STORED.get(kind)
        if stored is None:
            raise self.damaged(f"numbers of the type {kind}")
        expected = num_bytes(self.file, shape, stored)
        if size != expected:
            raise self.damaged(f"{size} bytes for an array of shape {shape[:8]} in {stored}; {expected} are needed")
        dtype = "bool" if flags & _LOGICAL else _CLASSES[flags & 0xFF]

        def load() -> Tensor:
            raw = tensor_of(
                self.file, read_at(begin, size), tuple(reversed(shape)), stored, is_big_endian=self.is_big_endian
            )
            return raw.to(DTYPES[dtype]).permute(*reversed(range(len(shape)))).contiguous()

        return LazyArray(shape, dtype, load, None)
