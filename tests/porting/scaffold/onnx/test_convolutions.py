import pytest

from frostline.porting.readers.contract import SourceTensor
from frostline.porting.scaffold.onnx.values import Value
from helpers_onnx_operators import written
from helpers_onnx_text import refusal, result

X = Value("x", 4)


def weights(*shape, bias=0):
    made = [SourceTensor("w", shape, "float32", "layer", "weight", lambda: None)]
    return made + ([SourceTensor("b", (bias,), "float32", "layer", "bias", lambda: None)] if bias else [])


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("conv", ["self.Conv_0 = nn.Conv2d(4, 6, 3, stride=(2, 1), dilation=(1, 2), padding=(1, 0))",
         "x = self.Conv_0(x)"]),
        ("conv_sides", ["self.Conv_0(F.pad(x, (1, 1, 0, 2)))"]),
        ("conv_valid", ["nn.Conv2d(4, 6, 3, groups=2, bias=False)"]),
        ("conv_twice", ["x = self.Conv_0(x)\n        x = self.Conv_0(x)"]),
        ("conv_by_another", ["x = F.conv2d(x, self.Conv_0.weight, padding=2)"]),
        ("back_sides", ["x = self.ConvTranspose_0(x)[:, :, "]), ("gemm", ["nn.Linear(4, 5)"]),
        ("gemm_scaled", ["0.5 * (x @ self.Gemm_0_weight) + 2.0 * self.Gemm_0_bias"]),
        ("matmul", ["nn.Linear(4, 6)"]), ("matmul_turned", ["nn.Linear(4, 6, bias=False)"]),
        ("matmul_from_left", ["x = self.MatMul_0 @ x"]), ("tied", ["x @ self.Gather_0.weight.T"]),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(name, lines, tmp_path):
    text = written(name, tmp_path)
    for line in lines:
        assert line in text


def test_padding_that_pytorch_has_no_argument_for():
    tensors = weights(6, 3, 3, 3)
    same = result("Conv", X, *tensors, tensors=tensors, auto_pad="SAME_LOWER", strides=[2, 2])
    assert same.text == "self.layer(blocks.pad_same(x, (3, 3), (2, 2), (1, 1), at_start=True))"
    whole = result("Conv", X, *tensors, tensors=tensors, auto_pad="SAME_UPPER")
    assert whole.text == "self.layer(x)"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"output_shape": [9, 9]}, "output_shape"), ({"output_padding": [2, 2], "strides": [2, 2]}, "output_padding"),
        ({"strides": [4, 4], "auto_pad": "SAME_UPPER"}, "smaller than its stride"),
    ],
)  # fmt: skip
def test_transposed_convolutions_that_are_not_written(given, why):
    tensors = weights(3, 6, 3, 3)
    assert why in refusal("ConvTranspose", X, *tensors, tensors=tensors, **given)
