import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from frostline.core.errors import PortError
from frostline.porting.readers import mat5
from frostline.porting.readers.numpy_pickles import LazyArray
from frostline.porting.readers.weight_file import WeightFile

KINDS = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?")
HEAD = b"MATLAB 5.0 MAT-file".ljust(124)


def variables(path):
    with WeightFile(Path(path)) as file:
        return plain(mat5.variables(file))


def plain(value):
    """Arrays loaded; each must be what was announced."""
    if isinstance(value, LazyArray):
        loaded = value.load()
        assert (tuple(loaded.shape), str(loaded.dtype).removeprefix("torch.")) == (value.shape, value.dtype)
        assert loaded.is_contiguous()
        return loaded.numpy()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("is_packed", [False, True])
def test_arrays_as_scipy_reads_them(tmp_path, is_packed):
    rng = np.random.default_rng(0)
    arrays = {f"a{kind}".replace("?", "b"): (rng.normal(size=(2, 3, 4)) * 9).astype(kind) for kind in KINDS}
    arrays |= {"empty": np.zeros((0, 3)), "one": np.float32(3), "small": np.ones((1, 3), "u1")}
    savemat(tmp_path / "a.mat", arrays, do_compression=is_packed)
    found, expected = variables(tmp_path / "a.mat"), loadmat(tmp_path / "a.mat", mat_dtype=True)
    assert found.keys() == arrays.keys()
    for name in arrays:
        kept = expected[name].astype(bool) if name == "ab" else expected[name]
        assert np.array_equal(found[name], kept)
        assert found[name].dtype == kept.dtype


def test_texts_cells_and_structures(tmp_path):
    cells = np.empty((2, 2), object)
    cells[:] = [["a", 1.0], ["b", np.arange(3.0)]]
    savemat(tmp_path / "a.mat", {"c": cells, "s": {"x": "text", "y": {"z": np.eye(2)}, "none": np.zeros((0, 0))}})
    found = variables(tmp_path / "a.mat")
    assert found["c"][:2] == ["a", "b"]  # the first axis is the fastest
    assert found["c"][3].tolist() == [[0, 1, 2]]
    (only,) = found["s"]
    assert only["x"] == "text"
    assert np.array_equal(only["y"][0]["z"], np.eye(2))


def element(kind, raw, order="<"):
    return struct.pack(f"{order}2I", kind, len(raw)) + raw + bytes(-len(raw) % 8)


def matrix(kind=6, shape=(2, 3), name=b"a", rest=None, flags=0, order="<"):
    rest = element(9, struct.pack(f"{order}6d", *range(6)), order) if rest is None else rest
    head = element(6, struct.pack(f"{order}2I", kind | flags, 0), order)
    head += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, head + element(1, name, order) + rest, order)


def written(tmp_path, raw, mark=b"\0\1IM"):
    (tmp_path / "a.mat").write_bytes(HEAD + mark + raw)
    return tmp_path / "a.mat"


def test_both_orders_of_bytes(tmp_path):
    for order, mark in (("<", b"\0\1IM"), (">", b"\1\0MI")):
        found = variables(written(tmp_path, matrix(order=order), mark))
        assert found["a"].tolist() == [[0, 2, 4], [1, 3, 5]]


PACKED = zlib.compress(matrix())


@pytest.mark.parametrize(
    "raw",
    [matrix(shape=(2**31 - 1, 2**31 - 1)), matrix(shape=(-1, 2)), matrix(shape=(2,)), matrix(shape=(1,) * 65),
     matrix(kind=1, shape=(10**6, 10**3), rest=b""), matrix(kind=99), matrix(flags=0x800),
     matrix(rest=element(5, struct.pack("<6d", *range(6)))), matrix(rest=element(99, bytes(48))), matrix(rest=b""),
     matrix(name=b"a" * 5000), matrix() * 2, matrix()[:-1], matrix() + b"\0", matrix() + element(9, bytes(8)),
     struct.pack("<2I", 14, 2**31), struct.pack("<2I", 15, 10) + bytes(10), element(14, bytes(3)),
     struct.pack("<2H4s", 14, 7, b"abcd"), struct.pack("<2I", 15, len(PACKED) - 1) + PACKED[:-1],
     struct.pack("<2I", 15, len(PACKED) + 8) + PACKED + bytes(8),
     struct.pack("<2I", 15, len(zlib.compress(matrix() + b"12345678"))) + zlib.compress(matrix() + b"12345678"),
     matrix(kind=1, shape=(1, 1), rest=element(9, bytes(8))),
     matrix(kind=2, shape=(1, 1), rest=element(5, struct.pack("<i", 8)) + element(1, b"x" * 9)),
     matrix(kind=2, shape=(1, 1), rest=element(5, struct.pack("<i", 4)) + element(1, b"x\0\0\0x\0\0\0")),
     matrix(kind=4, rest=element(9, bytes(8)))],
)  # fmt: skip
def test_files_that_contradict_themselves(tmp_path, raw):
    with pytest.raises(PortError, match="damaged"):
        variables(written(tmp_path, raw))


def test_another_mark_of_the_order_of_bytes(tmp_path):
    with pytest.raises(PortError, match="damaged"):
        variables(written(tmp_path, matrix(), b"\0\1XX"))


@pytest.mark.parametrize("kind", [3, 5, 16, 17])
def test_objects_and_functions_are_refused(tmp_path, kind):
    with pytest.raises(PortError, match="a value that is not supported"):
        variables(written(tmp_path, matrix(kind=kind)))


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mat5, "_FLOOR_BYTES", 1 << 16)
    bomb = zlib.compress(bytes(1 << 22), 9)
    with pytest.raises(PortError, match="damaged") as caught:
        variables(written(tmp_path, struct.pack("<2I", 15, len(bomb)) + bomb))
    assert "100 times" in caught.value.received


def test_cells_deep_inside_of_each_other(tmp_path):
    raw = matrix(shape=(1, 1), rest=element(9, bytes(8)))
    for _ in range(40):
        raw = matrix(kind=1, shape=(1, 1), rest=raw)
    with pytest.raises(PortError, match="damaged") as caught:
        variables(written(tmp_path, raw))
    assert "deep" in caught.value.received
