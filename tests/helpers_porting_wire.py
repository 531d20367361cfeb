"""Protocol buffers written by hand: hostile files, and files of frameworks that cannot be installed."""

import struct


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
