from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.flax import claims, read
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "flax"


@pytest.fixture
def source():
    files = []

    def call(name, key=None):
        files.append(WeightFile(FILES / f"{name}.msgpack"))
        assert claims(files[-1])
        return read(files[-1], key)

    yield call
    for file in files:
        file.close()


@pytest.mark.parametrize("name", ["variables", "state"])
def test_every_array_is_what_flax_holds(source, name):
    expected = np.load(FILES / "variables.npz")
    found = source(name)
    assert (found.framework, found.order) == ("flax", "numbers")
    assert {tensor.name for tensor in found.tensors} == set(expected.files)
    for tensor in found.tensors:
        value = tensor.load()
        raw = value.view(torch.uint16) if value.dtype == torch.bfloat16 else value
        assert raw.numpy().tobytes() == expected[tensor.name].tobytes()
        assert tensor.shape == expected[tensor.name].shape
    units = list(dict.fromkeys(tensor.unit for tensor in found.tensors))
    assert units == ["BatchNorm_0", "Conv_0", *(f"Dense_{k}" for k in range(11)), "head", "norm", "table"]
    assert {t.leaf for t in found.tensors if t.unit == "BatchNorm_0"} == {"scale", "bias", "mean", "var"}


def test_the_rest_of_a_training_state(source):
    found = source("state")
    assert found.dropped["opt_state/0/mu/head/kernel"] == found.dropped["opt_state/0/count"] == "optimizer slot"
    assert found.dropped["rng"] == "random state"
    assert found.dropped["ema_params/kernel"] == "moving average"
    taken = source("state", "ema_params")
    assert [tensor.name for tensor in taken.tensors] == ["ema_params/bias", "ema_params/kernel"]
    with pytest.raises(PortError, match="tree does not contain the requested entry") as caught:
        source("state", "ema")
    assert "batch_stats, ema_params, opt_state, params, rng" in caught.value.received


def test_arrays_in_pieces(source):
    first, empty = source("chunked").tensors
    assert first.load().numpy().tobytes() == np.load(FILES / "chunked.npz")["layers/0/kernel"].tobytes()
    assert first.shape == (7, 5)
    assert (empty.shape, empty.dtype, tuple(empty.load().shape)) == ((0, 3), "int8", (0, 3))


def text(value):
    return bytes([0xD9, len(value)]) + value.encode()


def array(shape=b"\x91\x02", dtype="float32", content=b"\xc4\x08" + bytes(8), code=1):
    body = b"\x93" + shape + text(dtype) + content
    return bytes([0xC7, len(body), code]) + body


def pieces(shape, *parts):
    chunks = bytes([0x80 + len(parts)]) + b"".join(text(str(k)) + part for k, part in enumerate(parts))
    return b"\x83" + text("__msgpack_chunked_array__") + b"\xc3" + text("shape") + shape + text("chunks") + chunks


SHAPE_4 = b"\x81" + text("0") + b"\x04"
HOSTILE = {
    "an array of objects": array(dtype="O"),
    "an array of raw records": array(dtype="V8"),
    "a dtype that is a list": bytes([0xC7, 14, 1]) + b"\x93\x91\x02\x90" + b"\xc4\x08" + bytes(8),
    "fewer bytes than the shape": array(shape=b"\x91\x03"),
    "a shape of 2^64": array(shape=b"\x92" + b"\xcf" + b"\xff" * 8 + b"\x02"),
    "a negative axis": array(shape=b"\x91\xff"),
    "an axis that is a text": array(shape=b"\x91" + text("2")),
    "an axis that is true": array(shape=b"\x91\xc3", content=b"\xc4\x04" + bytes(4)),
    "65 axes": array(shape=b"\xdc\x00\x41" + b"\x01" * 65, content=b"\xc4\x04" + bytes(4)),
    "an unknown extension": array(code=9),
    "bytes that are no array": b"\xc4\x08" + bytes(8),
    "an array that is no list": bytes([0xC7, 1, 1]) + b"\x01",
    "an array with bytes after it": bytes([0xC7, 24, 1]) + array()[3:] + b"\0" * (24 - len(array()[3:])),
    "pieces of another shape": pieces(SHAPE_4, array()),
    "pieces of two dtypes": pieces(SHAPE_4, array(), array(dtype="int32")),
    "no pieces": pieces(SHAPE_4),
    "pieces that are numbers": pieces(SHAPE_4, b"\x01"),
    "pieces of 2^63": pieces(b"\x81" + text("0") + b"\xcf\x7f" + b"\xff" * 7, array()),
    "pieces without a shape": pieces(b"\xc0", array()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays_are_refused(tmp_path, name):
    (tmp_path / "a").write_bytes(b"\x81" + text("params") + HOSTILE[name])
    with WeightFile(tmp_path / "a") as file, pytest.raises(PortError, match="damaged"):
        read(file)


def test_hostile_trees_are_refused(tmp_path):
    good = array()
    trees = {
        "two arrays of one name": b"\x82" + text("a/b") + good + text("a") + b"\x81" + text("b") + good,
        "a name that turns": b"\x81" + text("a\u202eb") + good,
        "bytes after the end": b"\x81" + text("a") + good + b"\0",
        "nested 10^5 deep": (b"\x81" + text("a")) * 100_000,
    }
    for data in trees.values():
        (tmp_path / "a").write_bytes(data)
        with WeightFile(tmp_path / "a") as file, pytest.raises(PortError, match="damaged"):
            read(file)
    (tmp_path / "a").write_bytes(b"\x81" + text("a") + b"\x01")
    with WeightFile(tmp_path / "a") as file, pytest.raises(PortError, match="does not contain the requested entry"):
        read(file)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x02}q\x00.",
        b"\x89HDF\r\n\x1a\n",
        b"\x89PNG\r\n",
        b"PK\x03\x04",
        b"\xde\x00",
        b"{}",
        b"\x81\xc0",
    ],
)
def test_other_files_are_not_claimed(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with WeightFile(tmp_path / "a") as file:
        assert not claims(file)
