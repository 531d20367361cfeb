from contextlib import suppress
from pathlib import Path

import pytest

from frostline.porting.readers.snappy import SnappyError, decompress

FILES = sorted((Path(__file__).parents[1] / "files" / "snappy").glob("*.snappy"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_blocks_of_googles_library(path):
    assert decompress(path.read_bytes(), 1 << 20) == path.with_suffix(".raw").read_bytes()


def test_a_long_copy_repeats_what_it_writes():
    assert decompress(bytes([9, 0]) + b"a" + bytes([(7 << 2) | 2, 1, 0]), 99) == b"a" * 9


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff" * 6,  # no length
        bytes([200, 1]),  # nothing follows
        bytes([3, 2 << 2]) + b"ab",  # a cut literal
        bytes([1, 2 << 2]) + b"abc",  # more than declared
        bytes([9, 0]) + b"a" + bytes([(7 << 2) | 2, 2, 0]),  # a copy from before the start
        bytes([9, 0]) + b"a" + bytes([(7 << 2) | 2, 0, 0]),  # a copy of itself
        bytes([9, 0]) + b"a" + bytes([(7 << 2) | 2]),  # a cut copy
        bytes([9, 63 << 2, 255, 255, 255, 255]) + b"a",  # a literal of 4 GiB
    ],
)  # fmt: skip
def test_damaged_blocks_are_refused(data):
    with pytest.raises(SnappyError):
        decompress(data, 1 << 20)


def test_a_bomb_is_refused_by_its_length():
    with pytest.raises(SnappyError, match="allowed 1000"):
        decompress(b"\xff\xff\xff\xff\x0f" + b"\0a", 1_000)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_cut_and_every_changed_byte_is_an_error_or_other_bytes(path):
    whole = path.read_bytes()
    for place in range(min(len(whole), 300)):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]):
            with suppress(SnappyError):
                assert len(decompress(data, 1 << 16)) <= 1 << 16
