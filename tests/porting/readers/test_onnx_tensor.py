import os
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.onnx_tensor import OnnxTensor, dequantised
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, float32, number, packed

FLOATS = np.arange(6, dtype="<f4")


def proto(dims, kind, *fields, name="w"):
    return b"".join(number(1, size) for size in dims) + number(2, kind) + block(8, name) + b"".join(fields)


def elsewhere(**said):
    return b"".join(block(13, block(1, key) + block(2, str(value))) for key, value in said.items()) + number(14, 1)


@pytest.fixture
def tensor(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / "part").write_bytes(bytes(4) + FLOATS.tobytes())
    with WeightFile(tmp_path / "model.onnx") as file:
        yield lambda data: OnnxTensor(file, Wire(file, data).message())


def test_values_in_fields(tensor):
    assert tensor(proto((2, 3), 1, block(4, FLOATS.tobytes()))).load().tolist() == FLOATS.reshape(2, 3).tolist()
    assert tensor(proto((2,), 1, float32(4, 1.5), float32(4, 2.5))).load().tolist() == [1.5, 2.5]
    assert tensor(proto((3,), 22, packed(5, [0xF1, 0x07]))).load().tolist() == [1, -1, 7]
    assert tensor(proto((3,), 21, block(9, bytes([0xF1, 0x07])))).load().tolist() == [1, 15, 7]
    assert tensor(proto((1,), 16, packed(5, [0x3FC0]))).load().tolist() == [1.5]


def test_values_elsewhere(tensor):
    read = tensor(proto((2, 3), 1, elsewhere(location="part", offset=4, length=24)))
    assert read.load().tolist() == FLOATS.reshape(2, 3).tolist()
    assert tensor(proto((7,), 1, elsewhere(location="part"))).load().tolist()[2:] == FLOATS[1:].tolist()


def test_a_file_elsewhere_that_changes_is_noticed(tensor, tmp_path):
    read = tensor(proto((7,), 1, elsewhere(location="part")))
    (tmp_path / "part").write_bytes(bytes(28) + b"more")
    with pytest.raises(PortError, match="changed while it was read"):
        read.load()


DAMAGED = {
    "fewer bytes": proto((2, 3), 1, block(9, b"1234")),
    "more bytes": proto((2, 3), 1, block(9, bytes(28))),
    "two places": proto((1,), 1, block(9, b"1234"), float32(4, 1)),
    "raw and elsewhere": proto((7,), 1, block(9, bytes(28)), elsewhere(location="part")),
    "a segment": proto((1,), 1, block(9, b"1234"), block(3, number(1, 0))),
    "a bomb of values": proto((10**12,), 1, float32(4, 1)),
    "a bomb of nothing": proto((10**6,), 1),
    "a negative axis": proto((-1,), 1, block(9, b"")),
    "2^126 elements": proto((2**63 - 1, 2**63 - 1), 1, block(9, b"")),
    "65 axes": proto((1,) * 65, 1, block(9, b"1234")),
    "an offset past the end": proto((1,), 1, elsewhere(location="part", offset=25)),
    "a length past the end": proto((7,), 1, elsewhere(location="part", offset=4, length=28)),
    "a length of another shape": proto((3,), 1, elsewhere(location="part", offset=4, length=24)),
    "a negative offset": proto((1,), 1, elsewhere(location="part", offset=-4, length=4)),
    "an offset that is no number": proto((1,), 1, elsewhere(location="part", offset="1e3", length=4)),
    "an offset of 30 digits": proto((1,), 1, elsewhere(location="part", offset="9" * 30, length=4)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_tensors_are_refused_before_they_are_loaded(tensor, name):
    with pytest.raises(PortError, match="damaged"):
        tensor(DAMAGED[name])


def test_values_that_are_missing_are_noticed_when_they_are_loaded(tensor):
    for data in (proto((3, 3), 22, packed(5, [1, 2, 3, 4])), proto((2,), 1, float32(4, 1))):
        with pytest.raises(PortError, match="damaged"):
            tensor(data).load()


def test_places_elsewhere_that_are_refused(tensor, tmp_path):
    (tmp_path.parent / "secret").write_bytes(bytes(28))
    (tmp_path / "link").symlink_to(tmp_path.parent / "secret")
    os.link(tmp_path.parent / "secret", tmp_path / "hard")
    (tmp_path / "folder").symlink_to(tmp_path.parent)
    for location in (
        "../secret",
        "a/../../secret",
        str(tmp_path.parent / "secret"),
        "link",
        "hard",
        "folder/secret",
        "",
    ):
        with pytest.raises(PortError, match="outside of its folder"):
            tensor(proto((7,), 1, elsewhere(location=location)))
    with pytest.raises(PortError, match="Cannot open"):
        tensor(proto((7,), 1, elsewhere(location="missing")))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PortError, match="Only regular files"):
        tensor(proto((7,), 1, elsewhere(location="pipe")))


def test_dtypes_that_pytorch_does_not_have(tensor):
    for kind in (8, 18, 20, 23, 99):
        read = tensor(proto((1,), kind, block(9, b"\0")))
        assert (read.dtype, read.is_float) == ("", False)


def test_integers_and_the_numbers_they_stand_for():
    values = torch.tensor([[-128, 127], [0, 1]], dtype=torch.int8)
    assert dequantised(values, torch.tensor(0.5), torch.tensor(1, dtype=torch.int8), 1).tolist() == [
        [-64.5, 63],
        [-0.5, 0],
    ]
    by_row = dequantised(values, torch.tensor([0.5, 2.0]), None, 0)
    assert by_row.tolist() == [[-64, 63.5], [0, 2]]


def test_files_of_the_onnx_package():
    path = Path(__file__).parents[1] / "files" / "onnx" / "dtypes.onnx"
    expected = np.load(path.with_suffix(".npz"))
    with WeightFile(path) as file:
        graph = Wire(file).message().message(7)
        for message in graph.messages(5):
            read = OnnxTensor(file, message)
            bits = {torch.bfloat16: torch.uint16, torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}
            value = read.load()
            raw = value.view(bits[value.dtype]) if value.dtype in bits else value
            assert raw.numpy().tobytes() == expected[read.name].tobytes(), read.name
            assert value.shape == expected[read.name].shape
