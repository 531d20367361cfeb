import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.tensor_data import DTYPES, check_names, num_bytes, tensor_of
from frostline.porting.readers.weight_file import WeightFile


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as opened:
        yield opened


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i8", "c8"])
def test_both_byte_orders(file, dtype, order):
    values = np.arange(6).reshape(2, 3).astype(np.dtype(order + dtype))
    name = np.dtype(dtype).name
    read = tensor_of(file, values.tobytes(), (2, 3), name, is_big_endian=order == ">")
    assert np.array_equal(read.numpy(), values)
    read += 1  # the memory is the tensor's own


def test_bfloat16_has_no_name_in_numpy(file):
    values = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    assert torch.equal(tensor_of(file, values.view(torch.uint8).numpy().tobytes(), (2,), "bfloat16"), values)
    assert DTYPES["float8_e4m3fn"] is torch.float8_e4m3fn


def test_arrays_without_elements_have_a_shape(file):
    assert tensor_of(file, b"", (0, 3), "float32").shape == (0, 3)
    assert tensor_of(file, b"\0\0\0\0", (), "int32").shape == ()


@pytest.mark.parametrize(("shape", "raw"), [((-1,), b""), ((1,) * 65, b"1234"), ((2**62, 8), b"1234"), ((3,), b"1234")])
def test_impossible_shapes_are_refused(file, shape, raw):
    with pytest.raises(PortError, match="damaged"):
        tensor_of(file, raw, shape, "float32")


def test_sizes_are_python_integers(file):
    assert num_bytes(file, (2**62, 8), "float64") == 2**68


@pytest.mark.parametrize("names", [["a", "a"], ["a\0b"], ["a" * 5000], ["a\u202eb"]])
def test_names_that_no_tool_writes_are_refused(file, names):
    with pytest.raises(PortError, match="damaged"):
        check_names(file, names)
    check_names(file, ["a", "b.c", "层/重"])


def test_an_array_becomes_the_memory_of_a_tensor(file):
    raw = np.arange(24, dtype=np.uint8)
    made = tensor_of(file, raw[8:16], (2,), "int32")
    assert made.data_ptr() == raw.ctypes.data + 8
    other = tensor_of(file, raw[1:9], (2,), "int32")
    assert other.data_ptr() % 4 == 0
    assert other.numpy().tobytes() == bytes(range(1, 9))
    assert tensor_of(file, raw[:0], (0, 3), "int32").shape == (0, 3)
