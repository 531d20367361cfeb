import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import messagepack
from frostline.porting.readers.messagepack import Blob, Unpacker
from frostline.porting.readers.weight_file import WeightFile

VALUES = [
    None, True, False, 0, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**64 - 1, -1, -32, -33, -128, -129, -32_769,
    -(2**31) - 1, 1.5, "", "a", "névé" * 20, "b" * 300, "c" * 40_000, [], [1, [2, [3]]], list(range(20)), {},
    {"a": 1, "b": {"c": [None]}}, {str(k): k for k in range(40)},
]  # fmt: skip


@pytest.fixture
def read(tmp_path):
    def call(data):
        (tmp_path / "a").write_bytes(data)
        with WeightFile(tmp_path / "a") as file:
            value, end = Unpacker(file).value(0, file.size)
            assert end == file.size
            return value

    return call


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_everything_that_the_msgpack_package_writes(read, value):
    msgpack = pytest.importorskip("msgpack", reason="pip install 'frostline[port]'")
    assert read(msgpack.packb(value)) == value
    assert read(msgpack.packb([value, value])) == [value, value]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 8, 16, 300, 70_000])
def test_bytes_and_extensions_are_places(read, size):
    msgpack = pytest.importorskip("msgpack", reason="pip install 'frostline[port]'")
    data = msgpack.packb(bytes(size))
    assert read(data) == Blob(None, len(data) - size, size)
    data = msgpack.packb(msgpack.ExtType(3, bytes(size)))
    assert read(data) == Blob(3, len(data) - size, size)


HOSTILE = {
    "nothing": b"",
    "a reserved byte": b"\xc1",
    "a cut number": b"\xce\0",
    "a cut text": b"\xa5ab",
    "a text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "an extension of 4 GiB": b"\xc9\xff\xff\xff\xff\x01",
    "a list of 2^32": b"\xdd\xff\xff\xff\xff",
    "a mapping of 2^32": b"\xdf\xff\xff\xff\xff",
    "a text that is not UTF-8": b"\xa2\xff\xfe",
    "a key that is a number": b"\x81\x01\x01",
    "a key that is a list": b"\x81\x90\x01",
    "a key twice": b"\x82\xa1a\x01\xa1a\x02",
    "lists nested 10^6 deep": b"\x91" * 1_000_000,
    "mappings nested 10^6 deep": b"\x81\xa1a" * 300_000,
    "a text of 100 KB": b"\xdb\x00\x01\x86\xa0" + b"a" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(read, name):
    with pytest.raises(PortError, match="damaged"):
        read(HOSTILE[name])


def test_the_number_of_items_is_bounded(read, monkeypatch):
    monkeypatch.setattr(messagepack, "MAX_ITEMS", 10)
    assert read(b"\x99" + b"\x01" * 9) == [1] * 9
    with pytest.raises(PortError, match="damaged"):
        read(b"\x9a" + b"\x01" * 10)
