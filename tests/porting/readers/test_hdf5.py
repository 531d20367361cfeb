import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import hdf5
from frostline.porting.readers.weight_file import WeightFile

NEEDS_NOT = "The HDF5 file holds what no file of weights needs"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


@pytest.fixture
def write(path):
    return lambda: h5py.File(path, "w")


def walk(path):
    with WeightFile(path) as file:
        found = hdf5.walk(file)
        return found, {name: array.load() for name, array in found.arrays.items()}


def refuse(path, what, received=""):
    with pytest.raises(PortError, match=what) as caught:
        walk(path)
    assert received in caught.value.received
    return caught.value


@pytest.mark.parametrize("options", [{}, {"chunks": True}, {"compression": "gzip", "shuffle": True, "fletcher32": True},
                                     {"compression": "lzf"}])  # fmt: skip
def test_arrays_of_every_type(path, write, options):
    codes = "f8 f4 f2 >f4 i8 i4 i2 i1 u8 u4 u2 u1 ? >i8".split()
    values = np.arange(24).reshape(2, 3, 4)
    with write() as file:
        for number, code in enumerate(codes):
            file.create_dataset(f"group/{number}", data=values.astype(code), **options)
    found, arrays = walk(path)
    for number, code in enumerate(codes):
        wanted = values.astype(code)
        array = found.arrays[f"group/{number}"]
        assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype.name)
        assert np.array_equal(arrays[f"group/{number}"].numpy(), wanted)


def test_scalars_empty_arrays_and_bfloat16(path, write):
    with write() as file:
        file["scalar"] = np.float32(3)
        file["none"] = np.zeros((0, 3), np.float32)
        file["half"] = np.array([0x3FC0, 0xC000], np.uint16).view("V2")
        file["half"].attrs["dtype"] = "bfloat16"
    _, arrays = walk(path)
    assert arrays["scalar"] == 3
    assert arrays["none"].shape == (0, 3)
    assert torch.equal(arrays["half"], torch.tensor([1.5, -2.0], dtype=torch.bfloat16))


def test_texts_are_attached_to_groups(path, write):
    with write() as file:
        group = file.create_group("a")
        group.attrs["one"] = "text"
        group.attrs["bytes"] = np.bytes_(b"text")
        group.attrs["several"] = ["a", "b"]
        group.attrs["fixed"] = np.array([b"a", b"b"])
        group.attrs["none"] = np.zeros(0)
        group.attrs["number"] = 3
        group.attrs["table"] = np.array([[b"a"]])
        group.attrs["objects"] = np.array([b"\xff"])
    with WeightFile(path) as file:
        found = hdf5.walk(file)
        assert found.groups == ("", "a")
        assert (found.has("a", "one"), found.has("a", "missing"), found.has("", "one")) == (True, False, False)
        assert found.attribute("a", "one") == found.attribute("a", "bytes") == "text"
        assert found.attribute("a", "several") == found.attribute("a", "fixed") == ["a", "b"]
        assert found.attribute("a", "none") == []
        assert found.attribute("a", "missing") is None
        for name in ("number", "table"):
            with pytest.raises(PortError, match=NEEDS_NOT):
                found.attribute("a", name)
        for name in ("objects", "one"):
            with pytest.raises(PortError, match="damaged"):
                found.attribute("a" if name == "objects" else "missing", name)
        with pytest.raises(PortError, match="damaged"):
            found.has("missing", "one")


def test_external_storage_is_never_opened(path, write, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret!!")
    with write() as file:
        file.create_dataset("a", (8,), "u1", external=[(str(secret), 0, 8)])
    refuse(path, NEEDS_NOT, "the bytes of 'a' are in another file")


def test_links_to_other_places_are_never_followed(path, write, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.ones(3)
    for link in (h5py.ExternalLink(str(tmp_path / "other.h5"), "/a"), h5py.SoftLink("/b")):
        with write() as file:
            file["b"] = np.ones(3)
            file["a"] = link
        refuse(path, NEEDS_NOT, "'a' is a link to another place")


def test_virtual_datasets_are_refused(path, write, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.ones(3)
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", shape=(3,))
    with write() as file:
        file.create_virtual_dataset("v", layout)
    refuse(path, NEEDS_NOT, "the bytes of 'v' are in another file")


def test_arrays_that_are_larger_than_their_bytes_are_refused(path, write):
    for options in ({"chunks": (1024, 1024), "compression": "gzip"}, {"chunks": (1024, 1024)}, {}):
        with write() as file:
            file.create_dataset("a", (1_000_000, 1_000_000), "f4", **options)
        refuse(path, "damaged", "'a' declares 4000000000000 bytes")
    with write() as file:  # a single chunk of many that are declared
        bomb = file.create_dataset("a", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10), compression="gzip")
        bomb[0, 0] = 1
    refuse(path, "damaged", "'a' declares")
    with write() as file:  # the chunk itself is larger than the array
        small = file.create_dataset("a", (1,), "f4", maxshape=(None,), chunks=(1 << 26,), compression="gzip")
        small[0] = 1
    refuse(path, "damaged", "'a' declares")


def test_many_arrays_are_bounded_together(path, write):
    with write() as file:
        for number in range(9):
            file.create_dataset(f"{number}", data=np.zeros(1 << 21), compression="gzip")
    refuse(path, "damaged", "arrays of 150994944 bytes in")


def test_arrays_of_zeros_pack_well_and_are_no_bombs(path, write):
    with write() as file:
        file.create_dataset("a", data=np.zeros((512, 1024), np.float32), compression="gzip")
    assert walk(path)[1]["a"].shape == (512, 1024)


def test_second_names_and_cycles_are_refused(path, write):
    with write() as file:
        file["a"] = np.ones(3)
        file["b"] = file["a"]
    refuse(path, NEEDS_NOT, "a second name of one object, or a cycle")
    with write() as file:
        below = file.create_group("x/y")
        below["z"] = file["x"]
    refuse(path, NEEDS_NOT, "a second name of one object, or a cycle")
    with write() as file:
        file["self"] = file["/"]
    refuse(path, NEEDS_NOT, "a second name of one object, or a cycle")


def test_deep_and_crowded_files_are_refused(path, write, monkeypatch):
    with write() as file:
        file.create_group("/".join(["g"] * 70))
    refuse(path, "damaged", "nested deeper than 64")
    monkeypatch.setattr(hdf5, "_MAX_OBJECTS", 10)
    with write() as file:
        for number in range(11):
            file.create_group(f"{number}")
    refuse(path, "damaged", "more than 10 objects")


@pytest.mark.parametrize(
    "values",
    [
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        np.array([b"text"]),
        np.zeros(3, "V3"),
        np.zeros(3, "V2"),
        np.zeros(3, "c8"),
        np.array(["text"], dtype=object),
    ],
    ids=["compound", "text", "opaque", "no bfloat16", "complex", "variable length"],
)
def test_other_types_are_refused(path, write, values):
    with write() as file:
        if values.dtype == object:
            file.create_dataset("a", data=["text"], dtype=h5py.string_dtype())
        else:
            file["a"] = values
    refuse(path, NEEDS_NOT, "the elements of 'a' are of the type")


def test_references_and_named_types_are_refused(path, write):
    with write() as file:
        file.create_dataset("a", (1,), dtype=h5py.ref_dtype)
    refuse(path, NEEDS_NOT)
    with write() as file:
        file["type"] = np.dtype("f4")
    refuse(path, NEEDS_NOT, "'type' is neither a group nor an array")
    with write() as file:
        file["empty"] = h5py.Empty("f4")
    refuse(path, NEEDS_NOT, "is an array without a shape")


def test_filters_from_elsewhere_are_refused(path, write):
    with write() as file:
        file.create_dataset("a", data=np.arange(5000), compression="gzip", shuffle=True)
    data = bytearray(path.read_bytes())
    # The message of the filter pipeline: version 1, two filters, the first of which is shuffle (2).
    at = data.index(b"\x01\x02\0\0\0\0\0\0" + struct.pack("<H", 2))
    data[at + 8 : at + 10] = struct.pack("<H", 32015)  # a plugin for zstandard
    path.write_bytes(data)
    refuse(path, NEEDS_NOT, "needs the filters [32015]")


def test_names_of_control_characters_are_refused(path, write):
    with write() as file:
        file["a\u202eb"] = np.ones(3)
    refuse(path, "damaged", "an array named")


def test_many_texts_that_point_to_one_long_one_are_refused(path, write, monkeypatch):
    with write() as file:
        file["a"] = np.ones(3)
        file.attrs["config"] = "x" * 70_000
        file.attrs["names"] = ["n"] * 100
    with WeightFile(path) as file:
        assert hdf5.walk(file).attribute("", "names") == ["n"] * 100
        monkeypatch.setattr(hdf5, "_MAX_TEXT_BYTES", 1 << 20)
        with pytest.raises(PortError, match="damaged") as caught:
            hdf5.walk(file).attribute("", "names")
        assert "attributes of more than" in caught.value.received
        found = hdf5.walk(file)
        with pytest.raises(PortError, match="damaged"):
            [found.attribute("", "config") for _ in range(20)]


def test_a_file_that_was_closed_cannot_be_read_on(path, write):
    with write() as file:
        file["a"] = np.ones(100_000)
    with WeightFile(path) as file:
        array = hdf5.walk(file).arrays["a"]
    with pytest.raises((PortError, ValueError)):
        array.load()


def test_truncated_files_and_other_kinds_are_refused(path, write):
    with write() as file:
        file.create_dataset("a", data=np.arange(5000.0))
        file.create_dataset("b", data=np.arange(5000.0), compression="gzip")
    whole = path.read_bytes()
    for size in (*range(0, 2000, 97), 30_000, len(whole) - 1):
        path.write_bytes(whole[:size])
        refuse(path, "damaged")
    path.write_bytes(b"\0" * 512 + whole)  # a block of the user's own before the file: a polyglot
    refuse(path, "damaged", "no HDF5 signature at its start")


def test_without_h5py_the_remedy_is_named(path, write, monkeypatch):
    with write() as file:
        file["a"] = np.ones(3)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    error = refuse(path, "Files in HDF5 need a package that is not installed")
    assert error.do == "pip install 'frostline[port]'"


def test_fixtures_of_keras_are_walked(path):
    for file in (Path(__file__).parents[1] / "files").glob("keras*/*.h5"):
        shutil.copy(file, path)
        assert walk(path)[1]
