import pytest

from frostline.core.errors import PortError
from frostline.porting.scaffold.onnx.operators import OPERATORS
from helpers_onnx_operators import error, stored, written

REFUSED = {
    "conv_computed": "its kernel is computed, and its size is not stated",
    "back_same_small": "SAME with a kernel that is smaller than its stride",
}


@pytest.mark.parametrize("name", [name for name in stored() if ":" not in name and name not in REFUSED])
def test_every_operator_is_written_as_onnx_runtime_computes_it(name, tmp_path):
    assert error(name, tmp_path) <= 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_written_is_named(name, tmp_path):
    with pytest.raises(PortError, match="No module can be written for this network") as caught:
        written(name, tmp_path)
    assert REFUSED[name] in caught.value.received


def test_the_common_operators_are_there():
    assert {"Conv", "Gemm", "LSTM", "Resize", "Softmax", "Where", "Einsum", "LayerNormalization"} <= set(OPERATORS)
