"""Dequantisation of the block types of GGUF: each block of 32 or 256 elements has its own scale.

Each function takes blocks_NB (N blocks of B bytes) and returns N rows of float32. The arithmetic is that of llama.cpp's
reference code, so the results are equal to the bit.

References:
    ggml, `ggml-quants.c` (`dequantize_row_*`); the layouts are those of `ggml-common.h`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Blocks = np.ndarray[Any, Any]


class BlockType(NamedTuple):
    """The storage of one type.

    Attributes:
        name: Its name in the format.
        elements: The number of elements in a block.
        size: The size of a block in bytes.
        unpack: Returns the elements of blocks.
    """

    name: str
    elements: int
    size: int
    unpack: Callable[[Blocks], Blocks]


def _half(raw: Blocks) -> Blocks:
    """The bytes as float16, converted to float32."""
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def _bits(packed: Blocks, width: int, group: int) -> Blocks:
    """Fields of `width` bits: first the lowest bits of `group` bytes, then the next higher bits of the same bytes."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    fields = packed.reshape(len(packed), -1, 1, group) >> shifts & np.uint8((1 << width) - 1)
    return fields.reshape(len(packed), -1)


def _high_bits(packed: Blocks) -> Blocks:
    """The fifth bit of 32 elements."""
    return np.unpackbits(packed, axis=1, bitorder="little") << np.uint8(4)


def _q4_0(raw: Blocks) -> Blocks:
    return _half(raw[:, :2]) * (_bits(raw[:, 2:], 4, 16).astype(np.float32) - 8)


def _q4_1(raw: Blocks) -> Blocks:
    return _half(raw[:, :2]) * _bits(raw[:, 4:], 4, 16).astype(np.float32) + _half(raw[:, 2:4])


def _q5_0(raw: Blocks) -> Blocks:
    fields = _bits(raw[:, 6:], 4, 16) | _high_bits(raw[:, 2:6])
    return _half(raw[:, :2]) * (fields.astype(np.float32) - 16)


def _q5_1(raw: Blocks) -> Blocks:
    fields = _bits(raw[:, 8:], 4, 16) | _high_bits(raw[:, 4:8])
    return _half(raw[:, :2]) * fields.astype(np.float32) + _half(raw[:, 2:4])


def _q8_0(raw: Blocks) -> Blocks:
    return raw[:, 2:].view(np.int8).astype(np.float32) * _half(raw[:, :2])


def _q2_k(raw: Blocks) -> Blocks:
    scales, fields = raw[:, :16], _bits(raw[:, 16:80], 2, 32)
    scale = _half(raw[:, 80:82]) * (scales & 15).astype(np.float32)
    least = _half(raw[:, 82:84]) * (scales >> 4).astype(np.float32)
    return (scale[..., None] * fields.reshape(-1, 16, 16).astype(np.float32) - least[..., None]).reshape(-1, 256)


def _q3_k(raw: Blocks) -> Blocks:
    fields = _bits(raw[:, 32:96], 2, 32).astype(np.int8)
    fields -= (_bits(raw[:, :32], 1, 32) ^ 1).astype(np.int8) * np.int8(4)  # 4 is subtracted where the bit is not set
    scales = _bits(raw[:, 96:104], 4, 8) | _bits(raw[:, 104:108], 2, 4) << np.uint8(4)
    scale = _half(raw[:, 108:110]) * (scales.astype(np.float32) - 32)
    return (scale[..., None] * fields.reshape(-1, 16, 16).astype(np.float32)).reshape(-1, 256)


def _six_bits(packed: Blocks) -> tuple[Blocks, Blocks]:
    """Unpack eight scales and eight minima of six bits each from twelve bytes."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, third & 15 | first >> 2 & 48], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 2 & 48], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _with_minima(raw: Blocks, fields: Blocks) -> Blocks:
    scales, minima = _six_bits(raw[:, 4:16])
    scale, least = _half(raw[:, :2]) * scales, _half(raw[:, 2:4]) * minima
    return (scale[..., None] * fields.reshape(-1, 8, 32).astype(np.float32) - least[..., None]).reshape(-1, 256)


def _q4_k(raw: Blocks) -> Blocks:
    return _with_minima(raw, _bits(raw[:, 16:], 4, 32))


def _q5_k(raw: Blocks) -> Blocks:
    return _with_minima(raw, _bits(raw[:, 48:], 4, 32) | _bits(raw[:, 16:48], 1, 32) << np.uint8(4))


def _q6_k(raw: Blocks) -> Blocks:
    fields = _bits(raw[:, :128], 4, 64) | _bits(raw[:, 128:192], 2, 32) << np.uint8(4)
    scale = _half(raw[:, 208:210]) * raw[:, 192:208].view(np.int8).astype(np.float32)
    return (scale[..., None] * (fields.reshape(-1, 16, 16).astype(np.float32) - 32)).reshape(-1, 256)


BLOCK_TYPES = {
    2: BlockType("Q4_0", 32, 18, _q4_0), 3: BlockType("Q4_1", 32, 20, _q4_1), 6: BlockType("Q5_0", 32, 22, _q5_0),
    7: BlockType("Q5_1", 32, 24, _q5_1), 8: BlockType("Q8_0", 32, 34, _q8_0), 10: BlockType("Q2_K", 256, 84, _q2_k),
    11: BlockType("Q3_K", 256, 110, _q3_k), 12: BlockType("Q4_K", 256, 144, _q4_k),
    13: BlockType("Q5_K", 256, 176, _q5_k), 14: BlockType("Q6_K", 256, 210, _q6_k),
}  # fmt: skip
