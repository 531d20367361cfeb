from pathlib import Path

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.onnx import claims, read
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, number

FILES = Path(__file__).parents[1] / "files" / "onnx"


@pytest.mark.parametrize("name", ["torchscript", "exported", "dtypes", "beside", "below", "nested"])
def test_every_initializer_is_what_the_onnx_package_reads(name):
    expected = np.load(FILES / f"{name}.npz")
    with WeightFile(FILES / f"{name}.onnx") as file:
        assert claims(file)
        found = read(file)
        assert (found.format, found.framework, found.order) == ("ONNX", "onnx", "graph")
        known = [tensor for tensor in found.tensors if tensor.name in expected.files]
        for tensor in known:
            if tensor.dtype in ("float32", "float64", "float16", "complex64"):
                assert tensor.load().numpy().tobytes() == expected[tensor.name].tobytes()
        assert {tensor.name for tensor in known} | set(found.dropped) >= set(expected.files)


def test_the_rest_of_a_model_is_said(tmp_path):
    (tmp_path / "a.onnx").write_bytes((FILES / "nested.onnx").read_bytes() + block(20, b""))
    with WeightFile(tmp_path / "a.onnx") as file:
        assert read(file).notes == ("The training graph in the file was left out.",)


def test_damaged_models_are_refused(tmp_path):
    whole = (FILES / "exported.onnx").read_bytes()
    path = tmp_path / "a.onnx"
    for data in (whole[:-200], whole + whole, number(1, 8)):
        path.write_bytes(data)
        with WeightFile(path) as file, pytest.raises(PortError, match="damaged"):
            read(file)
    path.write_bytes(whole[:5_000])
    with WeightFile(path) as file:
        assert claims(file)  # it is a model, and cut


def test_hostile_names_are_refused(tmp_path):
    tensor = number(1, 1) + number(2, 1) + block(8, "a\0b") + block(9, bytes(4))
    node = block(1, block(1, "x") + block(1, "a\0b") + block(2, "y") + block(4, "PRelu"))
    (tmp_path / "a.onnx").write_bytes(number(1, 8) + block(7, node + block(5, tensor) + block(11, block(1, "x"))))
    with WeightFile(tmp_path / "a.onnx") as file, pytest.raises(PortError, match="damaged"):
        read(file)


@pytest.mark.parametrize(
    "data", [b"", b"\x08", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(50), number(1, 1) + block(2, b"")]
)
def test_other_files_are_not_claimed(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with WeightFile(tmp_path / "a") as file:
        assert not claims(file)


def test_the_version_of_the_operators_and_the_dtypes_of_inputs_are_told():
    with WeightFile(FILES / "torchscript.onnx") as file:
        source = read(file)
    dtypes = [layer.config["dtype"] for layer in source.layers if layer.kind == "Input"]
    assert (source.opset, dtypes) == (20, ["float32", "int64"])
