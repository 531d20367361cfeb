import numpy as np
import pytest

from frostline.porting.readers.crc32c import crc32c, unmasked

RNG = np.random.default_rng(0)


def by_definition(data, register=0xFFFFFFFF):
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E),
     (bytes(range(31, -1, -1)), 0x113FDB5C), (b"123456789", 0xE3069283), (b"", 0)],
)  # fmt: skip
def test_the_vectors_of_rfc_3720(data, expected):
    assert crc32c(data) == expected


@pytest.mark.parametrize("size", [127, 128, 129, 136, 1_000, 8 * 6_777, 8 * 6_777 + 8, 8 * 6_777 + 16, 120_003])
def test_long_messages_have_the_crc_of_the_definition(size):
    data = RNG.bytes(size)
    assert crc32c(data) == by_definition(data)


def test_messages_of_several_pieces_and_messages_in_parts():
    data = RNG.bytes(9_000_001)
    assert crc32c(data) == crc32c(data[4_000_007:], crc32c(data[:4_000_007]))
    assert crc32c(data[:-1] + bytes([data[-1] ^ 1])) != crc32c(data)


def test_the_mask_of_leveldb():
    # A masked CRC that TensorFlow wrote: see `mask` in leveldb/util/crc32c.h.
    crc = crc32c(b"foo")
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked != crc
    assert unmasked(masked) == crc
