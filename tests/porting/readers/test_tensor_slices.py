from pathlib import Path

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import leveldb
from frostline.porting.readers.tensor_bundle import slice_key
from frostline.porting.readers.tensor_slices import is_first_version, tensor_slices
from frostline.porting.readers.tensorflow import claims, read
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, extents, number, packed, table

FILES = Path(__file__).parents[1] / "files" / "tensorflow"
VALUES = np.arange(6, dtype="<f4")


def test_every_tensor_is_what_tensorflow_reads():
    expected = np.load(FILES / "first.npz")
    with WeightFile(FILES / "first.ckpt") as file:
        assert claims(file)
        found = read(file)
        assert found.framework == "tensorflow"
        assert {(tensor.unit, tensor.leaf) for tensor in found.tensors} == {
            ("fc1", "weights"), ("fc1", "biases"), ("table", "embeddings"), ("", "double"),
        }  # fmt: skip
        assert found.dropped == {"global_step": "counter"}
        for tensor in found.tensors:
            assert tensor.load().numpy().tobytes() == expected[tensor.name].tobytes()
            assert tensor.shape == expected[tensor.name].shape


def test_a_checkpoint_with_an_index_is_none():
    with WeightFile(FILES / "names.ckpt.index") as file:
        assert not is_first_version(file, leveldb.table(file))
        assert not is_first_version(file, {})


WHOLE = ((0, -1), (0, -1))
BOTH = extents(None, None)


def meta(*tensors):
    return b"", block(1, b"".join(block(1, tensor) for tensor in tensors))


def named(shape=(3, 2), dtype=1, parts=(BOTH,), name="w"):
    axes = b"".join(block(2, number(1, size)) for size in shape)
    return block(1, name) + block(2, axes) + number(3, dtype) + b"".join(block(4, part) for part in parts)


def part(values=None, place=WHOLE, name="w", written=None):
    content = block(5, VALUES.tobytes()) if values is None else values
    where = extents(*(None if pair == (0, -1) else pair for pair in place))
    return slice_key(name, place), block(2, block(1, written or name) + block(2, where) + block(3, content))


@pytest.fixture
def loaded(tmp_path):
    def call(*rows):
        (tmp_path / "a.ckpt").write_bytes(table(sorted(rows)))
        with WeightFile(tmp_path / "a.ckpt") as file:
            found = tensor_slices(file, leveldb.table(file))
            return {name: found.load(entry) for name, entry in found.entries.items()}

    return call


def test_tensors_whole_and_in_parts(loaded):
    assert loaded(meta(named()), part())["w"].numpy().tobytes() == VALUES.tobytes()
    halves = [extents((0, 1), None), extents((1, 2), None)]
    first, rest = block(5, VALUES[:2].tobytes()), block(5, VALUES[2:].tobytes())
    rows = part(first, ((0, 1), (0, -1))), part(rest, ((1, 2), (0, -1)))
    assert loaded(meta(named(parts=halves)), *rows)["w"].numpy().tobytes() == VALUES.tobytes()
    integers = part(packed(7, [1, -2, 3, 4, 5, 6]))
    assert loaded(meta(named(dtype=3)), integers)["w"].tolist() == [[1, -2], [3, 4], [5, 6]]
    assert loaded(meta(named((), parts=(b"",))), part(block(4, VALUES[1:2].tobytes()), ()))["w"].item() == 1


HOSTILE = {
    "a part that is missing": [meta(named())],
    "a name twice": [meta(named(), named()), part()],
    "a part of no tensor": [meta(named()), part(), part(name="v", written="v")],
    "a part of other axes": [meta(named()), part(place=((0, -1),), written="w")],
    "a part without values": [meta(named()), (slice_key("w", WHOLE), block(2, block(1, "w")))],
    "fewer values": [meta(named()), part(block(5, VALUES[:5].tobytes()))],
    "more values": [meta(named((2, 2))), part()],
    "a bomb": [meta(named((10**6, 10**6))), part()],
    "a shape of 2^126": [meta(named((2**63 - 1, 2**63 - 1))), part()],
    "a negative axis": [meta(named((-3, -2))), part()],
    "parts that overlap": [
        meta(named(parts=[extents((0, 2), None), extents((1, 2), None)])),
        part(block(5, VALUES[:4].tobytes()), ((0, 2), (0, -1))),
        part(block(5, VALUES[2:].tobytes()), ((1, 2), (0, -1))),
    ],
    "a dtype without values": [meta(named(dtype=24)), part()],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_are_refused(loaded, name):
    with pytest.raises(PortError, match="damaged"):
        loaded(*HOSTILE[name])
