import struct

import h5py
import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import hdf5
from frostline.porting.readers.weight_file import WeightFile
from helpers_hdf5 import NEEDS_NOT, refuse, walk


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 2, 3)}, {"compression": "gzip", "shuffle": True}])
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


def test_external_storage_is_never_opened(path, write, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret!!")
    with write() as file:
        file.create_dataset("a", (8,), "u1", external=[(str(secret), 0, 8)])
    refuse(path, NEEDS_NOT, "'a' has its bytes in another file")


def test_virtual_datasets_are_refused(path, write, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.ones(3)
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", shape=(3,))
    with write() as file:
        file.create_virtual_dataset("v", layout)
    refuse(path, NEEDS_NOT, "'v' has its bytes in another file")


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


def test_arrays_of_zeros_pack_well_and_are_no_bombs(path, write):
    with write() as file:
        file.create_dataset("a", data=np.zeros((512, 1024), np.float32), compression="gzip")
    assert walk(path)[1]["a"].shape == (512, 1024)


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
    refuse(path, NEEDS_NOT, "'a' has elements of the type")


def test_filters_from_elsewhere_are_refused(path, write):
    with write() as file:
        file.create_dataset("a", data=np.arange(5000), compression="gzip", shuffle=True)
    data = bytearray(path.read_bytes())
    # The message of the filter pipeline: version 1, two filters, the first of which is shuffle (2).
    at = data.index(b"\x01\x02\0\0\0\0\0\0" + struct.pack("<H", 2))
    data[at + 8 : at + 10] = struct.pack("<H", 32015)  # a plugin for zstandard
    path.write_bytes(data)
    refuse(path, NEEDS_NOT, "needs the filters [32015]")


@pytest.mark.parametrize("option", [{"compression": "lzf"}, {"fletcher32": True}, {"scaleoffset": 2}])
def test_rare_filters_are_refused(path, write, option):
    with write() as file:
        file.create_dataset("a", data=np.arange(5000), **option)
    refuse(path, NEEDS_NOT, "'a' needs the filters")


def test_odd_numbers_are_refused(path, write):
    number, fraction = h5py.h5t.STD_I32LE.copy(), h5py.h5t.IEEE_F32LE.copy()
    number.set_precision(20)
    fraction.set_ebias(100)
    for odd in (number, fraction):
        with write() as file:
            h5py.h5d.create(file.id, b"a", odd, h5py.h5s.create_simple((3,)))
        refuse(path, NEEDS_NOT, "'a' has elements of the type")


def test_arrays_in_their_own_record(path, write):
    with write() as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, space, plan).write(space, space, np.arange(3, dtype="f4"))
    assert torch.equal(walk(path)[1]["a"], torch.arange(3.0))


def test_chunks_that_went_through_no_filter(path, write):
    values = np.arange(64.0).reshape(8, 8)
    with write() as file:
        made = file.create_dataset("a", (8, 8), "f4", chunks=(4, 8), compression="gzip")
        made[:] = values
        made.id.write_direct_chunk((0, 0), values[:4].astype("f4").tobytes(), filter_mask=1)
    assert np.array_equal(walk(path)[1]["a"].numpy(), values)


def test_a_chunk_that_unpacks_to_more_is_refused(path, write):
    import zlib

    for packed in (zlib.compress(bytes(10_000)), zlib.compress(bytes(4)), b"no deflate", zlib.compress(bytes(64))[:-3]):
        with write() as file:
            made = file.create_dataset("a", (16,), "f4", chunks=(16,), compression="gzip")
            made.id.write_direct_chunk((0,), packed)
        with WeightFile(path) as file:
            array = hdf5.walk(file).arrays["a"]
            with pytest.raises(PortError, match="damaged"):
                array.load()


def test_chunks_that_are_missing_twice_or_off_the_grid_are_refused(path, write):
    with write() as file:
        file.create_dataset("a", (64,), "f4", chunks=(16,))[:48] = 1
    refuse(path, "damaged", "'a' declares 256 bytes, of which the file contains 192")
    with write() as file:
        file.create_dataset("a", (64,), "f4", chunks=(16,))[:] = 1
    data = path.read_bytes()
    key = struct.pack("<2I2Q", 64, 0, 16, 0)
    assert data.count(key) == 1
    for wrong in (
        struct.pack("<2I2Q", 64, 0, 0, 0),
        struct.pack("<2I2Q", 64, 0, 15, 0),
        struct.pack("<2I2Q", 64, 0, 64, 0),
    ):
        path.write_bytes(data.replace(key, wrong))
        refuse(path, "damaged", "a chunk of 64 bytes at")
