"""MessagePack: the structure of a file; long values stay in the file.

References:
    msgpack/msgpack, `spec.md`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

MAX_DEPTH = 64
MAX_ITEMS = 500_000  # in the whole file; a large language model has a few thousand
_MAX_TEXT_BYTES = 1 << 16
_WINDOW_BYTES = 1 << 16
_PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
    0xD3: ">q",
}  # fmt: skip
_SIZED = {
    0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4), 0xC7: ("extension", 1), 0xC8: ("extension", 2),
    0xC9: ("extension", 4), 0xD9: ("text", 1), 0xDA: ("text", 2), 0xDB: ("text", 4), 0xDC: ("list", 2),
    0xDD: ("list", 4), 0xDE: ("mapping", 2), 0xDF: ("mapping", 4),
}  # fmt: skip


class Blob(NamedTuple):
    """The range of bytes, or of an extension.

    Attributes:
        kind: The type number of the extension; None for plain bytes.
        offset: Its offset in the file.
        size: Its size in bytes.
    """

    kind: int | None
    offset: int
    size: int


class Unpacker:
    """Reads values of one file.

    Args:
        file: The file.

    Raises:
        PortError: From any method, if a value is damaged or nested too deeply, or there are too many items.
    """

    def __init__(self, file: WeightFile) -> None:
        self.file, self._num_items = file, 0
        self._window, self._base = b"", 0

    def value(self, offset: int, end: int, depth: int = 0) -> tuple[Any, int]:
        """The value at `offset`, and its end; the keys of mappings must be distinct strings.

        Args:
            offset: The offset of the value.
            end: The end of the available bytes.
            depth: The number of enclosing values.
        """
        self._num_items += 1
        if depth > MAX_DEPTH or self._num_items > MAX_ITEMS:
            raise self.file.damaged(f"values nested {depth} levels deep, {self._num_items} in total")
        first, offset = self._take(offset, 1, end)[0], offset + 1
        if first < 0x80 or first >= 0xE0:
            return (first if first < 0x80 else first - 256), offset
        if first in _PLAIN:
            return _PLAIN[first], offset
        if first in _NUMBERS:
            width = struct.calcsize(_NUMBERS[first])
            return struct.unpack(_NUMBERS[first], self._take(offset, width, end))[0], offset + width
        kind, size, offset = self._head(first, offset, end)
        if kind == "mapping":
            return self._mapping(size, offset, end, depth)
        if kind == "list":
            return self._list(size, offset, end, depth)
        if kind == "text":
            return self._text(offset, size, end), offset + size
        number = struct.unpack(">b", self._take(offset, 1, end))[0] if kind == "extension" else None
        offset += kind == "extension"
        if offset + size > end:
            raise self.file.damaged(f"a value of {size} bytes at byte {offset}, where {end - offset} are left")
        return Blob(number, offset, size), offset + size

    def _head(self, first: int, offset: int, end: int) -> tuple[str, int, int]:
        """Kind and size of a value, and the offset of its content."""
        if first < 0xC0:
            kind = "mapping" if first < 0x90 else "list" if first < 0xA0 else "text"
            return kind, first & (0x1F if kind == "text" else 0x0F), offset
        if 0xD4 <= first <= 0xD8:
            return "extension", 1 << (first - 0xD4), offset
        if first not in _SIZED:
            raise self.file.damaged(f"the byte {first:#x}, with which no value begins")
        kind, width = _SIZED[first]
        return kind, int.from_bytes(self._take(offset, width, end), "big"), offset + width

    def _mapping(self, size: int, offset: int, end: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        for _ in range(self._possible(size, 2, offset, end)):
            key, offset = self.value(offset, end, depth + 1)
            if not isinstance(key, str) or key in found:
                raise self.file.damaged(f"the key {key!r}, which is not a string or occurs twice")
            found[key], offset = self.value(offset, end, depth + 1)
        return found, offset

    def _list(self, size: int, offset: int, end: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        for _ in range(self._possible(size, 1, offset, end)):
            item, offset = self.value(offset, end, depth + 1)
            found.append(item)
        return found, offset

    def _possible(self, size: int, width: int, offset: int, end: int) -> int:
        if size * width > end - offset:
            raise self.file.damaged(f"{size} items in {end - offset} bytes")
        return size

    def _text(self, offset: int, size: int, end: int) -> str:
        if size > _MAX_TEXT_BYTES:
            raise self.file.damaged(f"a string of {size} bytes")
        raw = self._take(offset, size, end)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.file.damaged(f"a string that is not UTF-8: {raw[:40]!r}") from error

    def _take(self, offset: int, count: int, end: int) -> bytes:
        if offset + count > end:
            raise self.file.damaged(f"a value at byte {offset} that ends after byte {end}")
        at = offset - self._base
        if at < 0 or at + count > len(self._window):
            self._window = self.file.read_at(offset, max(count, min(_WINDOW_BYTES, self.file.size - offset)))
            self._base, at = offset, 0
        return self._window[at : at + count]
