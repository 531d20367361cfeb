"""CRC-32C (Castagnoli), the checksum in TensorFlow checkpoints, vectorised with NumPy.

A CRC is the remainder of the message, as a polynomial over GF(2), divided by a polynomial P of degree 32. P divides the
sparse polynomial y^6777 + y^484 + y^100 + 1, with y = x^64. A word of 64 bits can therefore be cleared by adding it to
the words 6293, 6677 and 6777 places later: additions of whole slices reduce a long message to 6777 words. Each bit of
the rest is multiplied by its place value, in one matrix product.

References:
    RFC 3720, appendix B.4 (test vectors); TensorFlow, `lib/hash/crc32c.h` (the mask). The sparse multiple was found by
    comparing all y^a + 1 with all y^b + y^c for a < 8192; the tests check it against the definition.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_TERMS = (6777, 484, 100)
_JUMPS = tuple(_TERMS[0] - term for term in (*_TERMS[1:], 0))
_SHORT = 128  # bytes; for shorter messages one table look-up per byte is faster
_PIECE = 1 << 14  # words copied at a time; they fit the cache of a core


def crc32c(data: bytes | np.ndarray, start: int = 0) -> int:
    """The CRC-32C of `data`.

    Args:
        data: Any bytes, or an array of bytes.
        start: The CRC-32C of the bytes before `data`.
    """
    if len(data) < _SHORT:
        return _stepped(bytes(data), start ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    head = len(data) % 8 or 8
    register = _stepped(bytes(data[:head]), start ^ 0xFFFFFFFF)  # the rest is a whole number of words
    return _remainder(_shrunk(np.frombuffer(data, dtype="<u8", offset=head), register)) ^ 0xFFFFFFFF


def unmasked(stored: int) -> int:
    """The CRC of a stored value: TensorFlow and LevelDB store it rotated, with a constant added."""
    rotated = (stored - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def _stepped(data: bytes, register: int) -> int:
    table = _table()
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register


def _shrunk(words: np.ndarray, register: int) -> np.ndarray:
    """At most 6777 words with the same remainder; `register` is added to the first."""
    left = np.array([register], dtype="<u8")
    left[0] ^= words[0]
    for begin in range(1, max(2, len(words)), _PIECE):
        left = np.concatenate([left, words[begin : begin + _PIECE]])
        count = len(left) - _TERMS[0]
        for first in range(0, count, _JUMPS[0]):
            width = min(_JUMPS[0], count - first)
            for jump in _JUMPS:
                left[first + jump : first + jump + width] ^= left[first : first + width]
        left = left[max(0, count) :]
    return left


def _remainder(words: np.ndarray) -> int:
    """The CRC register after `words`, from a register of zero."""
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(len(words), 64).astype(np.float32)
    sums = (bits.T @ _places()[-len(words) :]).astype(np.int64) & 1  # sums of at most 6777 ones are exact in float32
    rows = sums @ (1 << np.arange(32, dtype=np.int64))
    register = 0
    for row in rows.tolist():  # the first bit of a word has the highest power
        register = (register >> 1) ^ (_POLYNOMIAL if register & 1 else 0) ^ row
    return register


@lru_cache(maxsize=1)
def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [(register >> 1) ^ (_POLYNOMIAL if register & 1 else 0) for register in table]
    return table


@lru_cache(maxsize=1)
def _places() -> np.ndarray:
    """The place values: row -k contains the 32 register bits that the last bit of the k-th last word contributes."""
    registers = np.zeros(_TERMS[0], dtype="<u4")
    register = _POLYNOMIAL  # x^32: the value of a single last bit
    for place in range(_TERMS[0]):
        registers[-1 - place] = register
        register = _stepped(bytes(8), register)
    return np.unpackbits(registers.view(np.uint8), bitorder="little").reshape(-1, 32).astype(np.float32)
