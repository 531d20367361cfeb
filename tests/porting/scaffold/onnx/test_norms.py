import pytest

from frostline.porting.scaffold.onnx.values import Value
from helpers_onnx_operators import written
from helpers_onnx_text import refusal, result

X, VECTOR = Value("x", 4), Value("v", 1)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("batch_norm", "nn.BatchNorm2d(4, eps=0.01, momentum=0.2)"), ("batch_norm_rows", "nn.BatchNorm1d(4)"),
        ("instance_norm", "nn.InstanceNorm2d(4, eps=0.001, affine=True)"), ("layer_norm", "nn.LayerNorm(4)"),
        ("layer_norm_axes", "nn.LayerNorm((5, 4), eps=0.1, bias=False)"), ("group_norm", "nn.GroupNorm(2, 4)"),
        ("prelu", "nn.PReLU(4)"), ("prelu_each", "torch.where(x > 0, x, self.PRelu_0 * x)"),
        ("embedding", "nn.Embedding(6, 4)"), ("embedding_columns", "x = self.Gather_0[:, x]"),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(name, line, tmp_path):
    assert line in written(name, tmp_path)


def test_scales_that_are_computed_are_taken_by_the_function():
    assert result("InstanceNormalization", X, VECTOR, VECTOR).text == "F.instance_norm(x, weight=v, bias=v, eps=1e-05)"
    assert result("LayerNormalization", X, VECTOR).text == "F.layer_norm(x, x.shape[-1:], v, None, 1e-05)"
    assert result("RMSNormalization", X, VECTOR).text == "F.rms_norm(x, x.shape[-1:], v, 1e-05)"
    found = result("GroupNormalization", X, VECTOR, VECTOR, opset=18, num_groups=2)  # one number for each group
    spread = "v.repeat_interleave(x.shape[1] // 2)"
    assert found.text == f"F.group_norm(x, 2, {spread}, {spread}, 1e-05)"
    given = [VECTOR] * 4
    assert result("BatchNormalization", X, *given).text == "F.batch_norm(x, v, v, v, v, eps=1e-05)"


def test_norms_in_training_are_not_written():
    given = [VECTOR] * 4
    assert "in training" in refusal("BatchNormalization", X, *given, training_mode=1)
    assert "one mean for each place" in refusal("BatchNormalization", X, *given, spatial=0)
    assert "its mean or deviation" in refusal("LayerNormalization", X, VECTOR, outputs=2)
