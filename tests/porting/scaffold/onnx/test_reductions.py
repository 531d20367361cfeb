import pytest

from frostline.porting.scaffold.onnx.values import Numbers, Value, numbers, objects
from helpers_onnx_text import refusal, result

X = Value("x", 3)


@pytest.mark.parametrize(
    ("kind", "inputs", "given", "text"),
    [
        ("ReduceMean", (X,), {"axes": [-1, 1]}, "x.mean((1, 2), keepdim=True)"),
        ("ReduceSum", (X, numbers([0])), {"keepdims": 0}, "x.sum(0)"), ("ReduceMax", (X,), {"keepdims": 0}, "x.amax()"),
        ("ReduceSum", (X,), {"noop_with_empty_axes": 1}, "x"), ("ReduceL2", (X,), {"axes": [1], "keepdims": 0},
        "x.square().sum(1).sqrt()"), ("Softmax", (X,), {}, "F.softmax(x, 2)"),
        ("Softmax", (X,), {"opset": 11}, "F.softmax(x.flatten(1), 1).reshape(x.shape)"),
        ("ArgMax", (X,), {"axis": 1, "keepdims": 0}, "x.argmax(1)"),
        ("TopK", (X, numbers([2])), {}, "x.sort(dim=2, descending=True, stable=True)"),
        ("CumSum", (X, numbers(1)), {}, "x.cumsum(1)"),
        ("Einsum", (X, X), {"equation": "bij, bkj -> bik"}, 'torch.einsum("bij,bkj->bik", x, x)'),
        ("LpNormalization", (X,), {}, "F.normalize(x, p=2, dim=2, eps=1e-30)"),
        ("MeanVarianceNormalization", (X,), {"axes": [1]},
         "(x - x.mean((1,), keepdim=True)) / (x.std((1,), correction=0, keepdim=True) + 1e-9)"),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(kind, inputs, given, text):
    assert result(kind, *inputs, **given).text == text


def test_ranks():
    assert result("ReduceMean", X, axes=[1], keepdims=0).rank == 2
    assert result("ReduceMean", X, keepdims=0).rank == 0
    assert result("MatMul", X, Value("v", 1)).rank == 2
    assert result("Einsum", X, X, equation="bij,bkj->bik").rank == 3


def test_products_of_sizes():
    assert result("ReduceProd", numbers([2, 3]), keepdims=0).item == 6
    assert result("ReduceProd", Numbers(objects(["n", 3])), keepdims=0).item == "n * 3"
    assert result("ReduceProd", numbers([2, 3])).items == [6]
    assert result("ReduceProd", Numbers(objects(["n"]))).items == ["n"]


def test_what_is_not_written():
    assert "equation" in refusal("Einsum", X, equation='"); import os')
    assert "exclusive" in refusal("CumSum", X, numbers(1), exclusive=1)
    assert "not over one axis" in refusal("ReduceProd", X)
    assert "an even size" in refusal("LRN", X, size=4)
    assert "the last index" in refusal("ArgMax", X, select_last_index=1)
