"""Containers whose lengths and checksums fit again after their content was damaged: messages and tables."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from frostline.porting.readers.crc32c import crc32c

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

MAGIC = bytes.fromhex("57fb808b247547db")


def in_message(content: bytes, damage: Callable[[bytes], bytes], draw: random.Random, depth: int = 0) -> bytes | None:
    """A protocol buffer, one of whose fields was damaged, moved, repeated or left out; None if it is none."""
    fields = _fields(content)
    if not fields or depth > 12:
        return None
    place = draw.randrange(len(fields))
    key, payload = fields[place]
    action = draw.random()
    if action < 0.05:
        del fields[place]
    elif action < 0.1:
        fields.insert(draw.randrange(len(fields)), fields[place])
    elif payload is None:
        fields[place] = damage(key), None
    else:
        inner = in_message(payload, damage, draw, depth + 1) if draw.random() < 0.8 else None
        fields[place] = key, damage(payload) if inner is None else inner
    return b"".join(key if payload is None else key + varint(len(payload)) + payload for key, payload in fields)


def in_table(content: bytes, damage: Callable[[bytes], bytes], draw: random.Random) -> bytes | None:
    """A table of LevelDB, one of whose keys or values was damaged; None if it is none."""
    rows = _rows(content)
    if not rows:
        return None
    place = draw.randrange(len(rows))
    key, value = rows[place]
    if draw.random() < 0.15:
        rows[place] = damage(key), value
    else:
        rows[place] = key, in_message(value, damage, draw) or damage(value)
    return table(sorted(rows) if draw.random() < 0.9 else rows)


def table(rows: Sequence[tuple[bytes, bytes]], compress: Callable[[bytes], bytes] | None = None) -> bytes:
    """A table with one entry in each block."""
    out, index = b"", b""

    def put(block: bytes) -> bytes:
        nonlocal out
        block = (compress(block) + b"\1") if compress else block + b"\0"
        handle = varint(len(out)) + varint(len(block) - 1)
        out += block + masked(crc32c(block))
        return handle

    for key, value in rows:
        entry = varint(0) + varint(len(key)) + varint(len(value)) + key + value
        handle = put(entry + struct.pack("<II", 0, 1))
        index += varint(0) + varint(len(key)) + varint(len(handle)) + key + handle
    footer = put(struct.pack("<II", 0, 1)) + put(index + struct.pack("<II", 0, 1))
    return out + footer.ljust(40, b"\0") + MAGIC


def masked(crc: int) -> bytes:
    """A CRC as tables store it."""
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value: int) -> bytes:
    """A number of seven bits a byte."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _fields(content: bytes) -> list[tuple[bytes, bytes | None]]:
    """Keys with payloads; of numbers, key and value together; empty if these bytes are no message."""
    found: list[tuple[bytes, bytes | None]] = []
    at = 0
    while at < len(content):
        start = at
        key, at = _varint(content, at)
        width = {0: 0, 1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0:
            _, at = _varint(content, at)
        elif width:
            at += width
        elif key & 7 == 2:
            after_key = at
            size, at = _varint(content, at)
            found.append((content[start:after_key], content[at : at + size]))
            at += size
            if at > len(content):
                return []
            continue
        if at > len(content) or key & 7 in (3, 4, 6, 7) or key < 8:
            return []
        found.append((content[start:at], None))
    return found


def _rows(content: bytes) -> list[tuple[bytes, bytes]]:
    if content[-8:] != MAGIC:
        return []
    at = len(content) - 48
    for _ in range(2):
        _, at = _varint(content, at)
    offset, at = _varint(content, at)
    size, at = _varint(content, at)
    blocks = [value for _, value in _entries(content[offset : offset + size])]
    rows: list[tuple[bytes, bytes]] = []
    for handle in blocks:
        offset, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        rows += _entries(content[offset : offset + size])
    return rows


def _entries(block: bytes) -> list[tuple[bytes, bytes]]:
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    found, at, key = [], 0, b""
    while 0 <= at < end:
        shared, at = _varint(block, at)
        added, at = _varint(block, at)
        size, at = _varint(block, at)
        key = key[:shared] + block[at : at + added]
        found.append((key, block[at + added : at + added + size]))
        at += added + size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    return 0, len(data) + 1
