import io
import struct

import h5py
import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import hdf5, hdf5_records
from frostline.porting.readers.hdf5_records import Records
from frostline.porting.readers.weight_file import WeightFile


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as opened:
        yield opened


@pytest.fixture
def intact():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as made:
        made["first"] = np.arange(10)
        made["second"] = np.arange(10.0)
        made.attrs["names"] = ["one", "two"]
    return bytearray(buffer.getvalue())


def refuse(file, content, received, what="damaged"):
    with pytest.raises(PortError, match=what) as caught:
        found = hdf5.walk(file, io.BytesIO(content))
        found.attribute("", "names")
    assert received in caught.value.received


def test_the_intact_file_is_read(file, intact):
    found = hdf5.walk(file, io.BytesIO(intact))
    assert list(found.arrays) == ["first", "second"]
    assert found.attribute("", "names") == ["one", "two"]


@pytest.mark.parametrize(
    ("at", "value", "received"),
    [
        (0, b"\x88", "no signature"),
        (24, struct.pack("<Q", 8), "the superblock states"),
        (40, struct.pack("<Q", 99), "the superblock states 99"),
        (48, struct.pack("<Q", 0), "the superblock states"),
        (64, struct.pack("<Q", 2**63), "are referred to"),
        (64, struct.pack("<Q", 0), "header of another version than 1"),
    ],
)
def test_first_records_are_compared_with_the_file(file, intact, at, value, received):
    intact[at : at + len(value)] = value
    refuse(file, intact, received, "damaged|not in the format that Keras and h5py write")


def test_short_files_and_odd_sizes_of_addresses_are_refused(file, intact):
    refuse(file, intact[:90], "superblock", "not in the format that Keras and h5py write")
    refuse(file, b"", "no signature")
    intact[13] = 4
    refuse(file, intact, "superblock 0", "not in the format that Keras and h5py write")


def change(content, mark, offset, value):
    at = content.index(mark)
    return content[: at + offset] + value + content[at + offset + len(value) :]


@pytest.mark.parametrize(
    ("mark", "offset", "value", "received"),
    [
        (b"TREE", 0, b"TREF", "a B-tree node without its signature"),
        (b"TREE", 4, b"\1", "a B-tree node without its signature"),
        (b"TREE", 5, b"\xff", "a B-tree node without its signature"),
        (b"TREE", 6, b"\xff\xff", "overlapping records"),
        (b"HEAP", 0, b"HEAQ", "heap of names has no signature"),
        (b"HEAP", 8, struct.pack("<Q", 2**62), "overlapping records"),
        (b"HEAP", 24, struct.pack("<Q", 2**62), "are referred to"),
        (b"SNOD", 0, b"SNOE", "a symbol table node without its signature"),
        (b"SNOD", 6, b"\xff\xff", "overlapping records"),
        (b"SNOD", 8, struct.pack("<Q", 2**62), "a name without a terminating zero"),
        (b"SNOD", 8, struct.pack("<Q", 0), "an object with the name ''"),
        (b"SNOD", 16, struct.pack("<Q", 2**62), "are referred to"),
        (b"GCOL", 0, b"GCOM", "a global heap without its signature"),
        (b"GCOL", 8, struct.pack("<Q", 2**62), "overlapping records"),
        (b"GCOL", 24, struct.pack("<Q", 2**62), "a string that is longer than its heap"),
        (b"GCOL", 16, struct.pack("<H", 9), "a string that is not in its heap"),
        (b"one", 0, b"\xff\xff\xff", "a string that is not UTF-8"),
    ],
    ids=range(17),
)
def test_wrong_records_are_refused(file, intact, mark, offset, value, received):
    refuse(file, change(intact, mark, offset, value), received)


def test_a_heap_of_empty_texts_ends(file, intact):
    """The C library runs for ever on a heap whose texts have no length and no number."""
    heap = intact.index(b"GCOL")
    (size,) = struct.unpack_from("<Q", intact, heap + 8)
    intact[heap + 16 : heap + size] = bytes(size - 16)
    refuse(file, intact, "a string that is not in its heap")
    intact[heap + 16 : heap + size] = struct.pack("<HHIQ", 7, 1, 0, 0) * ((size - 16) // 16)
    refuse(file, intact, "a string that is not in its heap")


def test_a_tree_that_is_its_own_branch_is_refused(file, intact):
    tree = intact.index(b"TREE")
    intact[tree + 5] = 1
    intact[tree + 32 : tree + 40] = struct.pack("<Q", tree)
    refuse(file, intact, "a B-tree node without its signature")


def test_messages_that_lead_back_are_refused(file, intact):
    (root,) = struct.unpack_from("<Q", intact, 64)
    (size,) = struct.unpack_from("<I", intact, root + 8)
    intact[root + 16 : root + 40] = struct.pack("<HHB3x2Q", 0x10, 16, 0, root + 16, size)
    refuse(file, intact, "overlapping records")


def test_messages_that_leave_their_block_are_refused(file, intact):
    (root,) = struct.unpack_from("<Q", intact, 64)
    intact[root + 18 : root + 20] = b"\xff\xff"
    refuse(file, intact, "a header message that is longer than its block")


def test_types_that_are_shared_are_refused(file, intact):
    (root,) = struct.unpack_from("<Q", intact, 64)
    intact[root + 20] |= 2
    refuse(file, intact, "a type that several arrays share", "uses a feature that no file of weights needs")


def test_records_are_counted(file, intact, monkeypatch):
    monkeypatch.setattr(hdf5_records, "_MAX_RECORDS", 10)
    refuse(file, intact, "more than 10 records")


@pytest.fixture
def records(file, intact):
    return Records(file, io.BytesIO(intact))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("<f4", "float32"), (">f8", "float64"), ("<f2", "float16"), ("<i8", "int64"), (">u2", "uint16"), ("?", "bool")],
)
def test_types_are_named_as_in_torch(records, dtype, name):
    found = records.type(h5py.h5t.py_create(np.dtype(dtype), logical=True).encode()[2:] + bytes(8))
    assert (found.name, found.is_big_endian) == (name, dtype[0] == ">")


def test_bfloat16_as_a_number_is_known(records):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_precision(16)
    kind.set_ebias(127)
    assert records.type(kind.encode()[2:] + bytes(8)).name == "bfloat16"


@pytest.mark.parametrize("content", [b"", b"\x10", b"\x10\0\0\0\4\0\0\0", b"\x11\0\0\0\4\0\0\0"])
def test_short_messages_are_refused(records, content):
    for read in (records.type, records.shape, records.link):
        with pytest.raises(PortError, match="damaged"):
            read(content)


def test_links_are_read_and_never_followed_elsewhere(records):
    plain = bytes([1, 0x18, 0, 1, 2]) + b"ab" + struct.pack("<Q", 800)
    assert records.link(plain) == ("ab", 800)
    for kind in (1, 64, 200):
        with pytest.raises(PortError, match="uses a feature that no file of weights needs"):
            records.link(bytes([1, 0x18, kind, 1, 2]) + b"ab" + struct.pack("<Q", 800))


def test_shapes(records):
    assert records.shape(struct.pack("<4B4x2Q", 1, 2, 0, 0, 3, 4)) == (3, 4)
    assert records.shape(struct.pack("<4B2Q", 2, 2, 0, 1, 3, 4)) == (3, 4)
    assert records.shape(bytes([2, 0, 0, 2])) is None
    with pytest.raises(PortError, match="damaged"):
        records.shape(bytes([1, 200, 0, 0]) + bytes(4000))
