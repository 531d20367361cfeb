import pytest

from frostline.porting.readers.caffe_layers import KINDS_V1, described, settings
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, float32, number


@pytest.fixture
def layer(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as file:
        yield lambda data: Wire(file, data).message()


def test_settings_of_both_versions(layer):
    convolution = number(1, 8) + number(2, 0) + number(3, 1) + number(4, 3) + number(4, 5) + number(6, 2)
    expected = {"num_output": 8, "bias_term": False, "pad": 1, "kernel_size": [3, 5], "stride": 2}
    assert settings(layer(block(106, convolution)), 2) == {"convolution_param": expected}
    assert settings(layer(block(10, convolution)), 1) == {"convolution_param": expected}
    norm = block(139, number(1, 1) + float32(3, 0.5))
    assert settings(layer(norm), 2) == {"batch_norm_param": {"use_global_stats": True, "eps": 0.5}}
    assert settings(layer(norm), 1) == {}
    pooling = block(121, number(1, 1) + number(13, 1) + number(2, 3))
    assert settings(layer(pooling), 2)["pooling_param"] == {"pool": "AVE", "kernel_size": 3, "round_mode": "FLOOR"}
    assert settings(layer(block(121, number(1, 99))), 2)["pooling_param"] == {"pool": 99}


def test_kinds_of_version_1():
    assert (KINDS_V1[4], KINDS_V1["CONVOLUTION"], KINDS_V1[14]) == ("Convolution", "Convolution", "InnerProduct")


def test_layers_that_write_what_they_read():
    found = described(
        [("data", "Input", (), ("data",), {}), ("conv", "Convolution", ("data",), ("x",), {}),
         ("relu", "ReLU", ("x",), ("x",), {}), ("sum", "Eltwise", ("x", "data", "missing"), ("y",), {})]
    )  # fmt: skip
    assert [layer.inputs for layer in found] == [(), ("data",), ("conv",), ("relu", "data")]
