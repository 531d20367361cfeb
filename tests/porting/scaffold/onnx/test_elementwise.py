import pytest

from frostline.porting.scaffold.onnx.values import BOOL, FLOAT, INT, Numbers, Value, numbers, objects
from helpers_onnx_text import refusal, result

X, Y = Value("x", 3), Value("y", 1)
SIZE = Numbers(objects("x.shape[1]"))


@pytest.mark.parametrize(
    ("kind", "inputs", "config", "text"),
    [
        ("Relu", (X,), {}, "F.relu(x)"), ("Neg", (Value("a + b", 2),), {}, "-(a + b)"),
        ("Add", (X, numbers([0.5])), {}, "x + 0.5"), ("Sub", (numbers(1.0), X), {}, "1.0 - x"),
        ("Add", (Y, numbers([[0.5]])), {}, "y + self.constant"), ("Sum", (X, Y, X), {}, "x + y + x"),
        ("Mul", (X, Value("x - y", 3)), {}, "x * (x - y)"), ("Pow", (X, numbers(2.0)), {}, "x ** 2.0"),
        ("Div", (Value("n", 1, INT), numbers(2)), {}, 'torch.div(n, 2, rounding_mode="trunc")'),
        ("Mean", (X, Y), {}, "(x + y) / 2"), ("Clip", (X, numbers(0.0), numbers(6.0)), {}, "F.relu6(x)"),
        ("Clip", (X, None, numbers(1.0)), {}, "x.clamp(max=1.0)"), ("Clip", (X,), {}, "x"),
        ("Max", (X, numbers(0.1)), {}, "x.clamp(min=0.1)"), ("Min", (X, Y), {}, "torch.minimum(x, y)"),
        ("Where", (Value("m", 3, BOOL), X, numbers(0.0)), {}, "torch.where(m, x, 0.0)"),
        ("Cast", (Value("n", 1, INT),), {"to": 1}, "n.float()"), ("Cast", (X,), {"to": 10}, "x"),
        ("HardSigmoid", (X,), {"alpha": 1 / 6}, "F.hardsigmoid(x)"), ("Elu", (X,), {}, "F.elu(x)"),
        ("Selu", (X,), {"gamma": 2.0}, "2.0 * F.elu(x, 1.6732632)"), ("Swish", (X,), {}, "F.silu(x)"),
        ("Dropout", (X, numbers(0.25)), {}, "self.layer(x)"), ("Dropout", (X, numbers(0.0)), {}, "x"),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(kind, inputs, config, text):
    assert result(kind, *inputs, **config).text == text


def test_kinds_and_ranks():
    assert result("Greater", X, Y).kind == BOOL
    assert result("Not", Value("m", 2, BOOL)).text == "~m"
    assert result("Mul", Value("n", 1, INT), numbers(0.5)).kind == FLOAT
    assert result("Add", X, Y).rank == 3


def test_numbers_are_computed_by_python():
    assert result("Div", SIZE, numbers(2)).item == "x.shape[1] // 2"
    assert result("Div", numbers(-7), numbers(2)).item == -3
    assert result("Sqrt", result("Cast", SIZE, to=1)).item == "x.shape[1] ** 0.5"
    assert result("Sqrt", numbers(64.0)).item == 8.0
    assert result("Equal", SIZE, numbers(-1)).item is False
    assert result("Where", numbers([True, False]), SIZE, numbers([1, 2])).items == ["x.shape[1]", 2]
    assert result("Where", Numbers(objects("a == b"), BOOL), numbers(1), numbers(2)).item == "(1 if a == b else 2)"
    assert result("Max", SIZE, numbers(1)).item == "max(x.shape[1], 1)"
    assert result("Cast", Numbers(objects("n / 2"), FLOAT), to=7).item == "int(n / 2)"
    assert result("Mod", SIZE, numbers(3)).item == "x.shape[1] % 3"


def test_powers_without_end_are_not_computed():
    assert result("Pow", numbers(2), numbers(3)).item == 8
    with pytest.raises(ValueError, match="to the power of"):
        result("Pow", numbers(10), numbers(10**10))


def test_what_is_not_written():
    assert "a bias that is not its bound" in refusal("Shrink", X, bias=0.1)
    assert "its mask is used" in refusal("Dropout", X, outputs=2)
    assert "approximate 'other'" in refusal("Gelu", X, approximate="other")
