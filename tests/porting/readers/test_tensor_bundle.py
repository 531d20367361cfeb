import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.tensor_bundle import bundle, slice_key
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import entry, extents, number, table

FILES = Path(__file__).parents[1] / "files" / "tensorflow"
STEMS = {
    "names.ckpt": "names", "keras3-1": "keras3", "tfkeras": "tfkeras", "modules": "modules", "dtypes": "dtypes",
    "shards": "shards", "saved_tfkeras/variables/variables": "saved_tfkeras",
    "saved_keras3/variables/variables": "saved_keras3",
}  # fmt: skip
DATA = np.arange(12, dtype="<f4").tobytes()


@pytest.mark.parametrize("stem", STEMS)
def test_every_tensor_is_what_tensorflow_reads(stem):
    expected = np.load(FILES / f"{STEMS[stem]}.npz")
    with WeightFile(FILES / f"{stem}.index") as file:
        found = bundle(file)
        for key in expected.files:
            read = found.load(found.entries[key])
            assert tuple(read.shape) == expected[key].shape
            raw = read.view(torch.uint16) if read.dtype == torch.bfloat16 else read
            assert raw.numpy().tobytes() == expected[key].tobytes(), key


@pytest.fixture
def read(tmp_path):
    """Read a checkpoint of one data file with these rows, and load everything."""

    def call(rows, header):
        (tmp_path / "a.data-00000-of-00001").write_bytes(DATA)
        (tmp_path / "a.index").write_bytes(table([(b"", header), *rows]))
        with WeightFile(tmp_path / "a.index") as file:
            found = bundle(file)
            return {name: found.load(row) for name, row in found.entries.items()}

    return call


def part(start, length, name="w"):
    data = DATA[start * 8 : (start + length) * 8]
    return slice_key(name, ((start, length), (0, -1))), entry(data, (length, 2), offset=start * 8)


WHOLE = entry(b"", (6, 2), slices=[extents((0, 4), None), extents((4, 2), None)])


def test_a_tensor_in_parts(read):
    read_back = read([part(0, 4), part(4, 2), (b"w", WHOLE)], number(1, 1))["w"]
    assert read_back.numpy().tobytes() == DATA


def test_numbers_of_other_machines(read, tmp_path):
    swapped = np.arange(12, dtype=">f4").tobytes()
    rows = [(b"w", entry(swapped, (12,)))]
    (tmp_path / "a.data-00000-of-00001").write_bytes(swapped)
    (tmp_path / "a.index").write_bytes(table([(b"", number(1, 1) + number(2, 1)), *rows]))
    with WeightFile(tmp_path / "a.index") as file:
        found = bundle(file)
        assert found.load(found.entries["w"]).tolist() == list(range(12))


HOSTILE = {
    "no data file": ([], number(1, 0)),
    "10^9 data files": ([], number(1, 10**9)),
    "a data file that is not one of them": ([(b"w", entry(DATA, (12,), shard=1))], number(1, 1)),
    "a negative data file": ([(b"w", entry(DATA, (12,), shard=-1))], number(1, 1)),
    "an end beyond the data file": ([(b"w", entry(DATA, (12,), offset=4))], number(1, 1)),
    "a negative offset": ([(b"w", entry(DATA, (12,), offset=-4))], number(1, 1)),
    "a shape that needs more": ([(b"w", entry(DATA, (13,)))], number(1, 1)),
    "a shape of 2^63": ([(b"w", entry(DATA, (2**62, 2**62)))], number(1, 1)),
    "a negative axis": ([(b"w", entry(DATA, (-1, -12)))], number(1, 1)),
    "other bytes": ([(b"w", entry(DATA[::-1], (12,)))], number(1, 1)),
    "a part that is missing": ([part(0, 4), (b"w", WHOLE)], number(1, 1)),
    "parts that overlap": (
        [part(0, 4), part(2, 2), (b"w", entry(b"", (6, 2), slices=[extents((0, 4), None), extents((2, 2), None)]))],
        number(1, 1),
    ),
    "parts with a hole": ([part(0, 4), (b"w", entry(b"", (6, 2), slices=[extents((0, 4), None)]))], number(1, 1)),
    "a part outside": (
        [part(4, 2), (b"w", entry(b"", (5, 2), slices=[extents((4, 2), None)]))], number(1, 1),
    ),
    "parts of other axes": ([part(0, 4), (b"w", entry(b"", (6, 2), slices=[extents((0, 4))]))], number(1, 1)),
    "a part of another dtype": (
        [(slice_key("w", ((0, 6), (0, -1))), entry(DATA, (6, 2), dtype=3)),
         (b"w", entry(b"", (6, 2), slices=[extents((0, 6), None)]))], number(1, 1),
    ),
    "too many parts": (
        [(b"w", entry(b"", (600,), slices=[extents((k, 1)) for k in range(600)]))], number(1, 1),
    ),
    "a name that is not UTF-8": ([(b"\xff\xfe", entry(DATA, (12,)))], number(1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_indexes_are_refused(read, name):
    rows, header = HOSTILE[name]
    with pytest.raises(PortError, match="damaged"):
        read(rows, header)


def test_a_table_of_something_else(tmp_path):
    (tmp_path / "a.index").write_bytes(table([(b"k", b"v")]))
    with WeightFile(tmp_path / "a.index") as file, pytest.raises(PortError, match="without the header"):
        bundle(file)


def test_a_data_file_that_is_missing_or_a_link(tmp_path):
    for name in ("shards.index", "shards.data-00000-of-00002", "shards.data-00001-of-00002"):
        shutil.copy(FILES / name, tmp_path / name)
    last = tmp_path / "shards.data-00001-of-00002"
    with WeightFile(tmp_path / "shards.index") as file:
        assert len(bundle(file).entries) == 4
        last.rename(tmp_path / "elsewhere")
        with pytest.raises(PortError, match="Cannot open the file of weights"):
            bundle(file)
        (tmp_path / "folder").mkdir()
        (tmp_path / "elsewhere").rename(tmp_path / "folder" / "elsewhere")
        last.symlink_to(tmp_path / "folder" / "elsewhere")
        with pytest.raises(PortError, match="outside of its folder"):
            bundle(file)


def test_a_text_is_checked(tmp_path):
    for name in ("modules.index", "modules.data-00000-of-00001"):
        shutil.copy(FILES / name, tmp_path / name)
    data = tmp_path / "modules.data-00000-of-00001"
    whole = data.read_bytes()
    key = "_CHECKPOINTABLE_OBJECT_GRAPH"
    with WeightFile(tmp_path / "modules.index") as file:
        found = bundle(file)
        at = found.entries[key].offset
        assert found.text(key).startswith(b"\n")
        for place in (at, at + 1, at + 3, at + 100):
            data.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(PortError, match="changed while it was read"):
                found.text(key)
            with WeightFile(tmp_path / "modules.index") as again, pytest.raises(PortError, match="damaged"):
                bundle(again).text(key)
