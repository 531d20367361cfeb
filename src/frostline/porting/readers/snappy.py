"""Decompression of Snappy blocks.

References:
    google/snappy, `format_description.txt`.
"""

from __future__ import annotations


class SnappyError(ValueError):
    """The bytes are not a Snappy block."""


def decompress(data: bytes, limit: int) -> bytes:
    """Decompress one block.

    Args:
        data: The block.
        limit: The largest allowed size of the content in bytes.

    Raises:
        SnappyError: If the block is damaged, or its content is larger than `limit`.
    """
    expected, at = _length(data)
    if expected > limit:
        raise SnappyError(f"a block declares {expected} bytes, allowed {limit}")
    out = bytearray()
    while at < len(data):
        size, offset, at = _element(data, at)
        if offset is None:
            out += data[at : at + size]
            at += size
        elif not 0 < offset <= len(out):
            raise SnappyError(f"a copy from {offset} bytes back, after {len(out)} bytes")
        else:
            pattern = bytes(out[len(out) - offset : len(out) - offset + size])
            out += (pattern * (size // len(pattern) + 1))[:size]
        if len(out) > expected:
            break
    if len(out) != expected or at > len(data):
        raise SnappyError(f"a block of {expected} bytes holds {len(out)}")
    return bytes(out)


def _length(data: bytes) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, place + 1
    raise SnappyError("a block without a length")


def _element(data: bytes, at: int) -> tuple[int, int | None, int]:
    """The size of the element at `at`, the distance of its copy (None: a literal), and the offset after its header."""
    tag, at = data[at], at + 1
    kind, rest = tag & 3, tag >> 2
    if kind == 0:
        width = max(0, rest - 59)
        return (int.from_bytes(data[at : at + width], "little") if width else rest) + 1, None, at + width
    if kind == 1:
        return (rest & 7) + 4, (tag >> 5) << 8 | int.from_bytes(data[at : at + 1], "little"), at + 1
    width = 2 if kind == 2 else 4
    return rest + 1, int.from_bytes(data[at : at + width], "little"), at + width
