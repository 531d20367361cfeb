import pytest

from frostline.porting.scaffold.onnx.arrangements import padded
from frostline.porting.scaffold.onnx.node import Several
from frostline.porting.scaffold.onnx.values import INT, Numbers, Value, numbers, objects
from helpers_onnx_text import refusal, result

X = Value("x", 3)


@pytest.mark.parametrize(
    ("kind", "inputs", "config", "text"),
    [
        ("Reshape", (X, numbers([0, -1])), {}, "x.flatten(1)"),
        ("Reshape", (X, numbers([-1, 2])), {}, "x.reshape(-1, 2)"),
        ("Reshape", (X, Value("s", 1, INT)), {},
         "x.reshape([size or x.shape[axis] for axis, size in enumerate(s.tolist())])"),
        ("Flatten", (X,), {"axis": 2}, "x.flatten(0, 1)"), ("Flatten", (Value("x", 2),), {}, "x"),
        ("Transpose", (X,), {"perm": [0, 2, 1]}, "x.transpose(1, 2)"), ("Transpose", (X,), {"perm": [0, 1, 2]}, "x"),
        ("Transpose", (X,), {"perm": [1, 2, 0]}, "x.permute(1, 2, 0)"),
        ("Unsqueeze", (X, numbers([-1])), {}, "x.unsqueeze(3)"),
        ("Squeeze", (X, numbers([1, 2])), {}, "x.squeeze((1, 2))"),
        ("Concat", (X, X), {"axis": -1}, "torch.cat([x, x], 2)"), ("Tile", (X, numbers([1, 1, 1])), {}, "x"),
        ("Expand", (X, numbers([1, 1, 1])), {}, "x"),
        ("Expand", (X, numbers([4, 1, 1, 5])), {}, "x.expand(4, -1, -1, 5)"),
        ("ConstantOfShape", (numbers([99]),), {"value": [1.5]}, "torch.full((99,), 1.5, device=x.device)"),
        ("Range", (numbers(0), Numbers(objects("n")), numbers(1)), {}, "torch.arange(n, device=x.device)"),
        ("Trilu", (X,), {}, "torch.triu(x)"), ("Pad", (X, numbers([0, 0, 1, 0, 0, 2])), {}, "F.pad(x, (1, 2))"),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(kind, inputs, config, text):
    assert result(kind, *inputs, **config).text == text


def test_sizes_are_numbers_of_python():
    shape = result("Shape", X)
    assert shape.items == ["x.shape[0]", "x.shape[1]", "x.shape[2]"]
    assert result("Shape", X, start=-1).items == ["x.shape[2]"]
    assert result("Concat", shape, numbers([-1]), axis=0).items[-2:] == ["x.shape[2]", -1]
    assert result("Unsqueeze", numbers(3), numbers([0])).items == [3]
    assert result("Squeeze", numbers([3]), numbers([0])).rank == 0
    assert result("Reshape", shape, numbers([3, 1])).data.shape == (3, 1)
    assert result("Transpose", numbers([[1, 2]]), perm=[1, 0]).text == "[[1], [2]]"
    assert result("ConstantOfShape", numbers([2]), value=[0]).items == [0, 0]
    assert result("Range", numbers(1), numbers(4), numbers(1)).items == [1, 2, 3]
    assert result("Size", X).item == "x.numel()"
    assert result("Constant", value_float=0.5).item == 0.5


def test_splits():
    assert isinstance(found := result("Split", X, outputs=2, axis=-1), Several)
    assert found.text == "x.chunk(2, 2)"
    assert result("Split", X, numbers([1, 2]), outputs=2).text == "x.split([1, 2], 0)"
    assert [one.items for one in result("Split", numbers([1, 2, 3]), outputs=2)] == [[1, 2], [3]]


def test_padding_of_some_axes():
    node = type("Node", (), {"need": staticmethod(lambda rank: rank)})
    assert padded(node, X, [1, 0], [1], "0", "constant").text == "F.pad(x, (0, 0, 1, 0))"
    assert padded(node, X, [0, 0], [1], "0", "constant") is X


@pytest.mark.parametrize(
    ("kind", "inputs", "config", "why"),
    [
        ("Shape", (Value("x"),), {}, "the number of axes"), ("Transpose", (X,), {"perm": [0, 0, 1]}, "perm"),
        ("OneHot", (X, numbers(3), numbers([0.5, 2.0])), {}, "other values"),
        ("Constant", (), {"value_string": "a"}, "no number"),
        ("Range", (numbers(0), numbers(10**12), numbers(1)), {}, "an array of 1000000000000 numbers"),
        ("Tile", (numbers([1]), numbers([10**9])), {}, "an array of 1000000000 numbers"),
        ("Pad", (X, Value("p", 1, INT)), {}, "its length is open"),
    ],
)  # fmt: skip
def test_what_is_not_written(kind, inputs, config, why):
    assert why in refusal(kind, *inputs, **config)
