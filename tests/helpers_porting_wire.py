"""Protocol buffers written by hand: hostile files, and files of frameworks that cannot be installed."""

import struct

from exams.fuzz.sealed import masked, table
from exams.fuzz.sealed import varint as unsigned
from frostline.porting.readers.crc32c import crc32c


def varint(value):
    return unsigned(value & ((1 << 64) - 1))


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def fixed32(field, value):
    return varint(field << 3 | 5) + struct.pack("<I", value)


def float32(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def packed(field, values):
    return block(field, b"".join(varint(value) for value in values))


def entry(data, shape, dtype=1, shard=0, offset=0, size=None, slices=()):
    """A row of a TensorFlow checkpoint's index."""
    axes = b"".join(block(2, number(1, size)) for size in shape)
    parts = b"".join(block(7, part) for part in slices)
    crc = fixed32(6, struct.unpack("<I", masked(crc32c(data)))[0])
    size = len(data) if size is None else size
    return number(1, dtype) + block(2, axes) + number(3, shard) + number(4, offset) + number(5, size) + crc + parts


def extents(*pairs):
    """One part of a tensor: start and length on each axis, None for the whole axis."""
    return b"".join(block(1, number(1, pair[0]) + number(2, pair[1]) if pair else b"") for pair in pairs)


__all__ = ["block", "entry", "extents", "fixed32", "float32", "masked", "number", "packed", "table", "varint"]
