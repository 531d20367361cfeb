import pytest

from frostline.porting.scaffold.onnx.values import Value, numbers
from helpers_onnx_text import refusal, result

X = Value("x", 4)
LINEAR = {"mode": "linear"}


@pytest.mark.parametrize(
    ("kind", "inputs", "given", "text"),
    [
        ("MaxPool", (X,), {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]},
         "self.layer(F.pad(x, (0, 1, 0, 1), value=-math.inf))"),
        ("MaxPool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
         "self.layer(blocks.pad_same(x, (3, 3), (2, 2), (1, 1), value=-math.inf))"),
        ("AveragePool", (X,), {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1},
         "F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)"),
        ("GlobalAveragePool", (X,), {}, "x.mean((2, 3), keepdim=True)"),
        ("GlobalMaxPool", (Value("x", 3),), {}, "x.amax(2, keepdim=True)"),
        ("Resize", (X, None, numbers([1.0, 1.0, 2.0, 2.0])),
         {}, 'F.interpolate(x, scale_factor=(2.0, 2.0), mode="nearest")'),
        ("Resize", (X, None, None, numbers([1, 3, 9, 8])), LINEAR, 'F.interpolate(x, size=(9, 8), mode="bilinear")'),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(kind, inputs, given, text):
    assert result(kind, *inputs, **given).text == text


SCALES = numbers([1.0, 1.0, 1.5, 1.5])


@pytest.mark.parametrize(
    ("kind", "inputs", "given", "why"),
    [
        ("MaxPool", (X,), {"kernel_shape": [2, 2], "outputs": 2}, "its indices are used"),
        ("MaxPool", (X,), {"kernel_shape": [2, 2], "strides": [1]}, "the numbers of its kernel"),
        ("MaxPool", (X,), {"kernel_shape": [2, 2], "pads": [-1, 0, 0, 0]}, "the numbers of its kernel"),
        ("AveragePool", (X,), {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilation"),
        ("Resize", (X, None, SCALES), {}, "the nearest value by 'half_pixel'"),
        ("Resize", (X, None, SCALES), {**LINEAR, "coordinate_transformation_mode": "asymmetric"}, "by 'asymmetric'"),
        ("Resize", (X, None, numbers([1.0, 2.0, 2.0, 2.0])), {}, "scales of the batch or of the channels"),
        ("Resize", (X, None, SCALES), {**LINEAR, "antialias": 1}, "antialias"),
        ("Resize", (X, None, Value("s", 1)), {}, "its scales are computed"), ("Resize", (X,), {}, "neither scales"),
        ("Resize", (X, None, SCALES), {"mode": "cubic", "cubic_coeff_a": -0.5}, "another coefficient"),
        ("Resize", (X, None, None, numbers([9])), {"axes": [2]}, "all axes behind the channels"),
        ("GlobalMaxPool", (Value("x"),), {}, "the number of axes"),
    ],
)  # fmt: skip
def test_what_pytorch_computes_otherwise_is_not_written(kind, inputs, given, why):
    assert why in refusal(kind, *inputs, **given)
