"""MessagePack: the structure of a file, with its long values left where they are.

References:
    msgpack/msgpack, `spec.md`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

MAX_DEPTH = 64
MAX_ITEMS = 500_000  # of a whole file; a large language model has a few thousand
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
    """Bytes, or an extension: where they lie.

    Attributes:
        kind: The extension's number, None for plain bytes.
        offset: Where they begin in the file.
        size: How many there are.
    """

    kind: int | None
    offset: int
    size: int


class Unpacker:
    """Reads values of one file.

    Args:
        file: The file.

    Raises:
        PortError: By any method, for what is damaged, nested deeply, or has more items than any file of weights.
    """

    def __init__(self, file: WeightFile) -> None:
        self.file, self._num_items = file, 0
        self._window, self._base = b"", 0

    def value(self, offset: int, end: int, depth: int = 0) -> tuple[Any, int]:
        """The value at `offset`, and where it ends; mappings have texts as keys, each once.

        Args:
            offset: Where it begins.
            end: Where the bytes end that it may take.
            depth: How many values it is part of.
        """
        self._num_items += 1
        if depth > MAX_DEPTH or self._num_items > MAX_ITEMS:
            raise self.file.damaged(f"values nested {depth} deep, {self._num_items} in all")
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
            raise self.file.damaged(f"{size} bytes at byte {offset}, of which {end - offset} are there")
        return Blob(number, offset, size), offset + size

    def _head(self, first: int, offset: int, end: int) -> tuple[str, int, int]:
        """Kind and size of a value, and where its content begins."""
        if first < 0xC0:
            kind = "mapping" if first < 0x90 else "list" if first < 0xA0 else "text"
            return kind, first & (0x1F if kind == "text" else 0x0F), offset
        if 0xD4 <= first <= 0xD8:
            return "extension", 1 << (first - 0xD4), offset
        if first not in _SIZED:
            raise self.file.damaged(f"no value begins with the byte {first:#x}")
        kind, width = _SIZED[first]
        return kind, int.from_bytes(self._take(offset, width, end), "big"), offset + width

    def _mapping(self, size: int, offset: int, end: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        for _ in range(self._possible(size, 2, offset, end)):
            key, offset = self.value(offset, end, depth + 1)
            if not isinstance(key, str) or key in found:
                raise self.file.damaged(f"the key {key!r} is no text, or is there twice")
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
            raise self.file.damaged(f"a text of {size} bytes")
        raw = self._take(offset, size, end)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.file.damaged(f"a text that is not UTF-8: {raw[:40]!r}") from error

    def _take(self, offset: int, count: int, end: int) -> bytes:
        if offset + count > end:
            raise self.file.damaged(f"a value at byte {offset} ends beyond byte {end}")
        at = offset - self._base
        if at < 0 or at + count > len(self._window):
            self._window = self.file.read_at(offset, max(count, min(_WINDOW_BYTES, self.file.size - offset)))
            self._base, at = offset, 0
        return self._window[at : at + count]
