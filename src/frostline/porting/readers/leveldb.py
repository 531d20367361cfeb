"""LevelDB tables: sorted keys and values in blocks with checksums. The index of a TensorFlow checkpoint is one.

References:
    google/leveldb, `doc/table_format.md`; TensorFlow, `core/lib/io/table_format.txt`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.readers.crc32c import crc32c, unmasked
from frostline.porting.readers.snappy import SnappyError, decompress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.porting.readers.weight_file import WeightFile

MAX_ENTRIES = 100_000  # a checkpoint of a large language model has a few thousand
_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # the compression method of the block, and its CRC
_MAX_BLOCK_BYTES = 1 << 26


def is_table(file: WeightFile) -> bool:
    """Whether the file ends with the magic number of a table."""
    return file.size >= _FOOTER_BYTES and file.read_at(file.size - len(_MAGIC), len(_MAGIC)) == _MAGIC


def table(file: WeightFile) -> dict[bytes, bytes]:
    """All entries; the CRC of each block is verified.

    Raises:
        PortError: If a block lies outside of the file or is damaged, or keys are not sorted.
    """
    if not is_table(file):
        raise file.damaged(f"a LevelDB table that does not end with {_MAGIC.hex()}")
    footer = file.read_at(file.size - _FOOTER_BYTES, _FOOTER_BYTES)
    _, at = _handle(file, footer, 0)  # the meta-index block, which checkpoints do not use
    index, _ = _handle(file, footer, at)
    found: dict[bytes, bytes] = {}
    last = None
    for _, value in _entries(file, _block(file, *index)):
        handle, _ = _handle(file, value, 0)
        for key, entry in _entries(file, _block(file, *handle)):
            if last is not None and key <= last:
                raise file.damaged(f"the key {key[:60]!r} after {last[:60]!r}, although keys must be sorted")
            found[key] = entry
            last = key
            if len(found) > MAX_ENTRIES:
                raise file.damaged(f"a table with more than {MAX_ENTRIES} entries")
    return found


def _block(file: WeightFile, offset: int, size: int) -> bytes:
    if size > _MAX_BLOCK_BYTES:
        raise file.damaged(f"a block of {size} bytes")
    stored = file.read_at(offset, size + _TRAILER_BYTES)
    content, kind = stored[:size], stored[size]
    if crc32c(stored[: size + 1]) != unmasked(int.from_bytes(stored[size + 1 :], "little")):
        raise file.damaged(f"the block at byte {offset} does not match its stored CRC")
    if kind == 0:
        return content
    if kind != 1:
        raise file.damaged(f"the block at byte {offset} is compressed by the unknown method {kind}")
    try:
        return decompress(content, _MAX_BLOCK_BYTES)
    except SnappyError as error:
        raise file.damaged(f"the block at byte {offset}: {error}") from error


def _entries(file: WeightFile, block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key is stored without the prefix that it shares with the previous one."""
    num_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (num_restarts + 1)
    if len(block) < 4 or end < 0:
        raise file.damaged(f"a block of {len(block)} bytes with {num_restarts} restarts")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(file, block, at, end)
        added, at = _varint(file, block, at, end)
        size, at = _varint(file, block, at, end)
        if shared > len(key) or at + added + size > end:
            raise file.damaged(
                f"an entry that shares {shared} bytes with a key of {len(key)} bytes, or ends after its block"
            )
        key = key[:shared] + block[at : at + added]
        at += added + size
        yield key, block[at - size : at]


def _handle(file: WeightFile, data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the offset after this handle."""
    offset, at = _varint(file, data, at, len(data))
    size, at = _varint(file, data, at, len(data))
    return (offset, size), at


def _varint(file: WeightFile, data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(min(10, end - at)):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise file.damaged("a varint that does not end in a table")
