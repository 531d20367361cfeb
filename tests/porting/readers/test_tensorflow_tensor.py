import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.tensorflow_tensor import TensorFlowTensor
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, number, packed


@pytest.fixture
def tensor(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as file:
        yield lambda data: TensorFlowTensor(file, Wire(file, data).message())


def proto(dtype, shape, *fields):
    return number(1, dtype) + block(2, b"".join(block(2, number(1, size)) for size in shape)) + b"".join(fields)


FLOATS = np.array([1.5, -2, 3, 4], dtype="<f4")


def test_every_way_to_write_values(tensor):
    assert tensor(proto(1, (2, 2), block(4, FLOATS.tobytes()))).load().tolist() == [[1.5, -2], [3, 4]]
    assert tensor(proto(1, (4,), block(5, FLOATS.tobytes()))).load().tolist() == FLOATS.tolist()
    assert tensor(proto(2, (2,), block(6, np.array([1.5, 2.5]).tobytes()))).load().tolist() == [1.5, 2.5]
    assert tensor(proto(3, (2,), packed(7, [-1, 5]))).load().tolist() == [-1, 5]
    assert tensor(proto(9, (1,), number(10, -7))).load().tolist() == [-7]
    assert tensor(proto(10, (2,), packed(11, [0, 1]))).load().tolist() == [False, True]
    assert tensor(proto(19, (2,), packed(13, [0x3E00, 0xC000]))).load().tolist() == [1.5, -2]
    bf16 = tensor(proto(14, (1,), packed(13, [0x3FC0]))).load()
    assert (bf16.dtype, bf16.item()) == (torch.bfloat16, 1.5)
    assert tensor(proto(8, (2,), block(9, FLOATS.tobytes()))).load().tolist() == [1.5 - 2j, 3 + 4j]


def test_the_last_value_is_repeated(tensor):
    assert tensor(proto(1, (2, 3), block(5, FLOATS[:2].tobytes()))).load().tolist() == [[1.5, -2, -2], [-2, -2, -2]]
    assert tensor(proto(1, (3,))).load().tolist() == [0, 0, 0]
    assert tensor(proto(1, ())).load().shape == ()


def test_what_is_no_number(tensor):
    assert not tensor(proto(7, (1,), block(8, b"text"))).is_number


@pytest.mark.parametrize(
    "data",
    [
        proto(1, (10**12,)), proto(1, (2**62, 2**62)), proto(1, (-1,)), proto(1, (3,), block(4, b"12345678")),
        proto(1, (1,) * 65),
    ],
)  # fmt: skip
def test_declared_sizes_are_checked_at_once(tensor, data):
    with pytest.raises(PortError, match="damaged"):
        tensor(data)


def test_more_values_than_the_shape_has(tensor):
    for data in (proto(1, (1,), block(5, FLOATS.tobytes())), proto(24, (1,))):
        with pytest.raises(PortError, match="damaged"):
            tensor(data).load()
