"""Protocol buffers without a schema: the fields of one message at a time, as offsets in the file.

Nothing is copied before it is requested, and nested messages are parsed on request only, by their field numbers.
Groups are refused (no format of weights uses them), and so is a singular field that occurs twice, since two programs
could read two different networks from such a file.

References:
    Protocol Buffers documentation, "Encoding".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from frostline.core.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.porting.readers.weight_file import WeightFile

MAX_DEPTH = 64
MAX_FIELDS = 500_000  # in all parsed messages, which takes about a second; a large ONNX graph has 200,000
MAX_TEXT_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Wire:
    """The bytes from which messages are parsed: those of a file, or `data` from it.

    Args:
        file: The file, for its bytes and for errors.
        data: Bytes to parse instead of those of the file.
    """

    def __init__(self, file: WeightFile, data: bytes | None = None) -> None:
        self.file, self.num_fields = file, 0
        self.size = file.size if data is None else len(data)
        self._data, self._base, self._window = data, 0, data or b""

    def message(self) -> Message:
        """The outermost message."""
        return Message(self, 0, self.size, 0)

    def span(self) -> Span:
        """The whole range of bytes."""
        return Span(self, 0, self.size)

    def read_at(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`."""
        return self.file.read_at(offset, count) if self._data is None else self._data[offset : offset + count]

    def array_at(self, offset: int, count: int) -> bytes | np.ndarray:
        """As `read_at`, in memory of its own where it is read from the file."""
        return self.file.array_at(offset, count) if self._data is None else self._data[offset : offset + count]

    def varint(self, offset: int, end: int) -> tuple[int, int]:
        """The varint at `offset`, and the offset of its end."""
        data, at = self._near(offset)
        end = min(at + end - offset, len(data))
        if at < end and data[at] < 0x80:
            return data[at], offset + 1
        value = shift = 0
        for place in range(at, min(at + 10, end)):
            byte = data[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 64:
                    break
                return value, offset + place - at + 1
            shift += 7
        raise self.file.damaged(f"a varint without an end at byte {offset} of a message")

    def _near(self, offset: int) -> tuple[bytes, int]:
        """A window of bytes with at least ten after `offset` (or all that are left), and the index of `offset`."""
        at = offset - self._base
        if self._data is None and (at < 0 or at + 10 > len(self._window)):
            self._window = self.file.read_at(offset, max(0, min(_WINDOW_BYTES, self.size - offset)))
            self._base, at = offset, 0
        return self._window, at


class Span(NamedTuple):
    """The range of a length-delimited field."""

    wire: Wire
    offset: int
    size: int

    def bytes(self) -> bytes:
        """Its content; the size is not limited here."""
        return self.wire.read_at(self.offset, self.size)

    def array(self) -> bytes | np.ndarray:
        """Its content, in memory of its own where it lies in the file itself."""
        return self.wire.array_at(self.offset, self.size)

    def text(self) -> str:
        """Its content as UTF-8."""
        if self.size > MAX_TEXT_BYTES:
            raise self.wire.file.damaged(f"a string of {self.size} bytes")
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            raise self.wire.file.damaged(f"a string that is not UTF-8: {self.bytes()[:40]!r}") from error


def beginning(span: Span, limit: int = 32) -> list[tuple[int, int | Span]]:
    """The first fields of a message, up to the first malformed one: to identify the format of a file.

    Returns:
        Field numbers with values; a range may end after the end of the file.
    """
    found: list[tuple[int, int | Span]] = []
    wire, offset, end = span.wire, span.offset, span.offset + span.size
    while offset < end and len(found) < limit:
        try:
            key, offset = wire.varint(offset, end)
            value, offset = wire.varint(offset, end)
        except PortError:
            break
        if key & 7 == _BYTES:
            found.append((key >> 3, Span(wire, offset, value)))
            offset += value
        elif key & 7 == _VARINT:
            found.append((key >> 3, value))
        else:
            break
    return found


class Message:
    """One message: its fields by number. Missing fields are 0, empty, or None, as in every protocol buffer.

    Raises:
        PortError: From any method, if a field has another type, or a singular field occurs twice.
    """

    def __init__(self, wire: Wire, offset: int, size: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise wire.file.damaged(f"messages nested more than {MAX_DEPTH} levels deep")
        self.wire, self.offset, self.size, self._depth = wire, offset, size, depth
        self._fields: dict[int, list[tuple[int, int | Span]]] = {}
        end = offset + size
        while offset < end:
            offset = self._parse(offset, end)

    def has(self, number: int) -> bool:
        """Whether the message has the field."""
        return number in self._fields

    def numbers(self) -> frozenset[int]:
        """The numbers of all fields of the message."""
        return frozenset(self._fields)

    def integer(self, number: int, default: int = 0) -> int:
        """An int32, int64, enum or bool."""
        return _signed(self._one(number, _VARINT, default))

    def fixed32(self, number: int) -> int:
        """A fixed32."""
        return self._one(number, _FIXED32, 0)

    def float32(self, number: int, default: float = 0.0) -> float:
        """A float."""
        return struct.unpack("<f", struct.pack("<I", self.fixed32(number)))[0] if self.has(number) else default

    def span(self, number: int) -> Span | None:
        """A field of bytes."""
        spans = self.spans(number)
        if len(spans) > 1:
            raise self._twice(number)
        return spans[0] if spans else None

    def spans(self, number: int) -> list[Span]:
        """A repeated field of bytes, strings or messages."""
        values = self._fields.get(number, [])
        return [value for _, value in values if isinstance(value, Span) or self._mistyped(number)]  # type: ignore[misc]

    def text(self, number: int, default: str = "") -> str:
        """A string."""
        span = self.span(number)
        return default if span is None else span.text()

    def texts(self, number: int) -> list[str]:
        """A repeated string."""
        return [span.text() for span in self.spans(number)]

    def message(self, number: int) -> Message | None:
        """A message."""
        span = self.span(number)
        return None if span is None else Message(self.wire, span.offset, span.size, self._depth + 1)

    def messages(self, number: int) -> Iterator[Message]:
        """A repeated message."""
        for span in self.spans(number):
            yield Message(self.wire, span.offset, span.size, self._depth + 1)

    def integers(self, number: int) -> list[int]:
        """A repeated int32, int64, enum or bool, packed or not; for short fields, such as a shape."""
        found: list[int] = []
        for _, value in self._fields.get(number, []):
            if isinstance(value, int):
                found.append(_signed(value))
                continue
            at, end = value.offset, value.offset + value.size
            while at < end:
                unsigned, at = self.wire.varint(at, end)
                found.append(_signed(unsigned))
                self._count()
        return found

    def varints(self, number: int) -> np.ndarray:
        """A repeated int32, int64 or uint64, packed or not, as uint64; for long fields, such as a tensor."""
        parts = [
            np.array([value], dtype=np.uint64) if isinstance(value, int) else self._unpacked(value.bytes())
            for _, value in self._fields.get(number, [])
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)

    def num_bytes(self, number: int, dtype: str) -> int:
        """The number of bytes that `fixed` would return."""
        width = np.dtype(dtype).itemsize
        return sum(value.size if isinstance(value, Span) else width for _, value in self._fields.get(number, []))

    def fixed(self, number: int, dtype: str) -> bytes:
        """A repeated float (`dtype` "<f4") or double ("<f8"), packed or not, as bytes in little-endian order."""
        width = np.dtype(dtype).itemsize
        kind = _FIXED32 if width == 4 else _FIXED64
        parts: list[bytes] = []
        for wire_type, value in self._fields.get(number, []):
            if wire_type not in (kind, _BYTES) or (isinstance(value, Span) and value.size % width):
                self._mistyped(number)
            parts.append(value.to_bytes(width, "little") if isinstance(value, int) else value.bytes())
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _unpacked(self, data: bytes) -> np.ndarray:
        """Packed varints, vectorised: each byte below 128 ends one of them."""
        raw = np.frombuffer(data, dtype=np.uint8)
        ends = np.flatnonzero(raw < 0x80)
        if (len(raw) and raw[-1] >= 0x80) or np.any(np.diff(ends, prepend=-1) > 10):
            raise self.wire.file.damaged("packed varints that do not end")
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        values = np.zeros(len(ends), dtype=np.uint64)
        for place in range(int((ends - starts).max(initial=-1)) + 1):
            within = starts + place <= ends
            values[within] |= (raw[starts[within] + place].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * place)
        return values

    def _parse(self, offset: int, end: int) -> int:
        """Record the field at `offset`; returns the offset of the next one."""
        self._count()
        key, offset = self.wire.varint(offset, end)
        number, wire_type = key >> 3, key & 7
        value: int | Span
        if wire_type == _VARINT:
            value, offset = self.wire.varint(offset, end)
        elif wire_type == _BYTES:
            size, offset = self.wire.varint(offset, end)
            value, offset = Span(self.wire, offset, size), offset + size
        elif wire_type in (_FIXED32, _FIXED64):
            width = 4 if wire_type == _FIXED32 else 8
            value, offset = (
                int.from_bytes(self.wire.read_at(offset, min(width, end - offset)), "little"),
                offset + width,
            )
        else:
            raise self.wire.file.damaged(f"a field of wire type {wire_type} (3 and 4 are groups) in a message")
        if offset > end or not 0 < number < 1 << 29:
            raise self.wire.file.damaged(
                f"field {number} ends at byte {offset}, after the end of its message at byte {end}"
            )
        self._fields.setdefault(number, []).append((wire_type, value))
        return offset

    def _count(self) -> None:
        self.wire.num_fields += 1
        if self.wire.num_fields > MAX_FIELDS:
            raise self.wire.file.refused(
                "The file of weights has too many fields.", f"more than {MAX_FIELDS} fields",
                "export the network again with its framework's own tool, which stores weights as packed arrays.",
            )  # fmt: skip

    def _one(self, number: int, wire_type: int, default: int) -> int:
        values = self._fields.get(number, [])
        if len(values) > 1:
            raise self._twice(number)
        for kind, value in values:
            if kind == wire_type and isinstance(value, int):
                return value
            self._mistyped(number)
        return default

    def _mistyped(self, number: int) -> bool:
        raise self.wire.file.damaged(f"field {number} of a message has another type than in its schema")

    def _twice(self, number: int) -> Exception:
        return self.wire.file.damaged(f"field {number} of a message occurs twice")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
