import re
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frostline.core.errors import PortError
from frostline.porting.readers import hdf5
from frostline.porting.readers.weight_file import WeightFile
from helpers_hdf5 import NEEDS_NOT, refuse, walk


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_h5py_writes_is_what_is_read(tmp_path, data):
    path = tmp_path / "a.h5"
    names = st.text("abcé_0 .", min_size=1, max_size=5).filter(lambda name: name.strip("."))
    paths = data.draw(st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), max_size=12))
    wanted = {}
    with h5py.File(path, "w") as file:
        for name in paths:
            if any(f"{name}/".startswith(f"{other}/") or f"{other}/".startswith(f"{name}/") for other in wanted):
                continue
            shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=3)))
            values = (
                np.arange(int(np.prod(shape)))
                .reshape(shape)
                .astype(data.draw(st.sampled_from("f4 >f8 i2 u1 ? f2".split())))
            )
            packed = data.draw(st.booleans()) and 0 not in shape and shape != ()
            file.create_dataset(name, data=values, **({"compression": "gzip"} if packed else {}))
            wanted[name] = values
        for number in range(data.draw(st.integers(0, 20))):
            file.attrs[f"text {number}"] = "é" * number
    found, arrays = walk(path)
    assert arrays.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.array_equal(arrays[name].numpy(), values)
        assert found.arrays[name].dtype == values.dtype.name


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
        with pytest.raises(PortError, match="damaged"):
            found.attribute("a", "objects")
        assert found.attribute("missing", "one") is None


def test_links_to_other_places_are_never_followed(path, write, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.ones(3)
    for link in (h5py.ExternalLink(str(tmp_path / "other.h5"), "/a"), h5py.SoftLink("/b")):
        with write() as file:
            file["b"] = np.ones(3)
            file["a"] = link
        refuse(path, NEEDS_NOT, "'a' is a soft or external link")


def test_many_arrays_are_bounded_together(path, write):
    with write() as file:
        for number in range(9):
            file.create_dataset(f"{number}", data=np.zeros(1 << 21), compression="gzip")
    refuse(path, "damaged", "arrays of 150994944 bytes in")


def test_second_names_and_cycles_are_refused(path, write):
    with write() as file:
        file["a"] = np.ones(3)
        file["b"] = file["a"]
    refuse(path, NEEDS_NOT, "a second link to an object, or part of a cycle")
    with write() as file:
        below = file.create_group("x/y")
        below["z"] = file["x"]
    refuse(path, NEEDS_NOT, "a second link to an object, or part of a cycle")
    with write() as file:
        file["self"] = file["/"]
    refuse(path, NEEDS_NOT, "a second link to an object, or part of a cycle")


def test_deep_and_crowded_files_are_refused(path, write, monkeypatch):
    with write() as file:
        file.create_group("/".join(["g"] * 70))
    refuse(path, "damaged", "more than 64 levels deep")
    monkeypatch.setattr(hdf5, "_MAX_OBJECTS", 10)
    with write() as file:
        for number in range(11):
            file.create_group(f"{number}")
    refuse(path, "damaged", "more than 10 objects")


def test_references_and_named_types_are_refused(path, write):
    with write() as file:
        file.create_dataset("a", (1,), dtype=h5py.ref_dtype)
    refuse(path, NEEDS_NOT)
    with write() as file:
        file["type"] = np.dtype("f4")
    refuse(path, NEEDS_NOT, "'type' is neither a group nor an array")
    with write() as file:
        file["empty"] = h5py.Empty("f4")
    refuse(path, NEEDS_NOT, "a null dataspace")


def test_names_of_control_characters_are_refused(path, write):
    with write() as file:
        file["a\u202eb"] = np.ones(3)
    refuse(path, "damaged", "an array named")


def test_many_texts_that_point_to_one_long_one_are_refused(path, write, monkeypatch):
    with write() as file:
        file.attrs["config"] = "x" * 70_000
        file.attrs["names"] = ["n"] * 100
    data = path.read_bytes()
    heaps = [struct.pack("<Q", found.start()) for found in re.finditer(b"GCOL", data)]
    ids = re.compile(b"(....)(?:" + b"|".join(map(re.escape, heaps)) + b")....", re.DOTALL)
    long = next(found[0] for found in ids.finditer(data) if found[1] == struct.pack("<I", 70_000))
    pointing = ids.sub(lambda found: long if found[1] == struct.pack("<I", 1) else found[0], data)
    path.write_bytes(pointing)
    with WeightFile(path) as file:
        assert hdf5.walk(file).attribute("", "names") == ["x" * 70_000] * 100
        monkeypatch.setattr(hdf5, "_MAX_TEXT_BYTES", 1 << 20)
        with pytest.raises(PortError, match="damaged") as caught:
            hdf5.walk(file).attribute("", "names")
        assert "attributes with strings of more than" in caught.value.received
        found = hdf5.walk(file)
        with pytest.raises(PortError, match="damaged"):
            [found.attribute("", "config") for _ in range(20)]


def test_truncated_files_and_other_kinds_are_refused(path, write):
    with write() as file:
        file.create_dataset("a", data=np.arange(5000.0))
        file.create_dataset("b", data=np.arange(5000.0), compression="gzip")
    whole = path.read_bytes()
    for size in (*range(0, 2000, 97), 30_000, len(whole) - 1):
        path.write_bytes(whole[:size])
        refuse(path, "damaged")
    path.write_bytes(b"\0" * 512 + whole)  # a block of the user's own before the file: a polyglot
    refuse(path, "damaged", "no signature at the start")


def test_the_newer_format_is_refused_with_its_remedy(path, write):
    with h5py.File(path, "w", libver="latest") as file:
        file["a"] = np.ones(3)
    assert "libver" in refuse(path, "not in the format that Keras and h5py write").do
    with h5py.File(path, "w", track_order=True) as file:
        for number in range(20):
            file[f"{number}"] = np.ones(3)
    refuse(path, "not in the format that Keras and h5py write")


def test_fixtures_of_keras_are_walked(path):
    for file in (Path(__file__).parents[1] / "files").glob("keras*/*.h5"):
        shutil.copy(file, path)
        assert walk(path)[1]
