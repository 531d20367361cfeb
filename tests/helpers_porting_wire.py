"""Protocol buffers written by hand: hostile files, and files of frameworks that cannot be installed."""

import struct

from frostline.porting.readers.crc32c import crc32c


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


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


def table(rows, compress=None):
    """A table of LevelDB with one entry in each data block, and right CRCs."""
    out, index = b"", b""

    def put(content):
        nonlocal out
        kind, content = (1, compress(content)) if compress else (0, content)
        handle = varint(len(out)) + varint(len(content))
        crc = crc32c(content + bytes([kind]))
        out += content + bytes([kind]) + masked(crc)
        return handle

    for key, value in rows:
        entry = varint(0) + varint(len(key)) + varint(len(value)) + key + value
        handle = put(entry + struct.pack("<II", 0, 1))
        index += varint(0) + varint(len(key)) + varint(len(handle)) + key + handle
    footer = put(struct.pack("<II", 0, 1)) + put(index + struct.pack("<II", 0, 1))
    return out + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def masked(crc):
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


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
