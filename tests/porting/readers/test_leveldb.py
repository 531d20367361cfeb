import struct
from pathlib import Path

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import leveldb
from frostline.porting.readers.crc32c import crc32c
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import masked, varint
from helpers_porting_wire import table as written

FILES = Path(__file__).parents[1] / "files"


@pytest.fixture
def read(tmp_path):
    def call(data):
        path = tmp_path / "table"
        path.write_bytes(data)
        with WeightFile(path) as file:
            return leveldb.table(file)

    return call


def block_of(content):
    """A table whose index block is `content`."""
    body = content + b"\0" + masked(crc32c(content + b"\0"))
    footer = varint(0) + varint(0) + varint(0) + varint(len(content))
    return body + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def test_keys_share_their_beginnings():
    with WeightFile(FILES / "tensorflow" / "modules.index") as file:
        keys = list(leveldb.table(file))
    assert keys[0] == b""
    assert b"net/cells/10/b/.ATTRIBUTES/VARIABLE_VALUE" in keys
    assert keys == sorted(keys)


def test_blocks_that_are_compressed(read):
    def compress(content):  # literals only
        return varint(len(content)) + bytes([62 << 2]) + struct.pack("<I", len(content) - 1)[:3] + content

    assert read(written([(b"a", b"1"), (b"b", b"2" * 300)], compress)) == {b"a": b"1", b"b": b"2" * 300}
    with pytest.raises(PortError, match="damaged"):
        read(written([(b"a", b"1")], lambda content: varint(1 << 31) + b"\0a"))


def test_every_changed_byte_is_noticed(read):
    whole = written([(b"a", b"1"), (b"b", b"2")])
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x41
        try:
            found = read(bytes(data))
        except PortError:
            continue
        assert found == {b"a": b"1", b"b": b"2"}  # the padding, and the block that nothing uses
        assert place >= len(whole) - 48 or 36 <= place < 49, place


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 48, b"\0" * 60,
        written([(b"b", b""), (b"a", b"")]),  # keys out of order
        written([(b"a", b""), (b"a", b"")]),  # a key twice
        block_of(varint(5) + varint(1) + varint(0) + b"a" + struct.pack("<II", 0, 1)),  # shares more than there is
        block_of(varint(0) + varint(99) + varint(0) + b"a" + struct.pack("<II", 0, 1)),  # ends beyond the block
        block_of(varint(0) + varint(1) + varint(1 << 62) + b"a" + struct.pack("<II", 0, 1)),
        block_of(struct.pack("<I", 1 << 31)),  # restarts that overflow the block
        block_of(b"a"),
        block_of(varint(0) + varint(1) + varint(4) + b"a" + varint(1 << 60) + b"\0" + struct.pack("<II", 0, 1)),
        (varint(1 << 40) + varint(9)).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"),  # a handle past the end
        (varint(0) + varint(0) + varint(0) + varint(1 << 40)).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"),
        (b"\xff" * 40) + bytes.fromhex("57fb808b247547db"),
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(read, data):
    with pytest.raises(PortError, match="damaged"):
        read(data)


def test_an_unknown_compression_is_refused(read):
    content = struct.pack("<II", 0, 1)
    body = content + b"\x04" + masked(crc32c(content + b"\x04"))
    data = body + (varint(0) * 3 + varint(len(content))).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    with pytest.raises(PortError, match="unknown method 4"):
        read(data)


def test_the_number_of_entries_is_bounded(read, monkeypatch):
    monkeypatch.setattr(leveldb, "MAX_ENTRIES", 1)
    with pytest.raises(PortError, match="more than 1 entries"):
        read(written([(b"a", b""), (b"b", b"")]))
