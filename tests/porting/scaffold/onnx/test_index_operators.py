import pytest

from frostline.porting.scaffold.onnx.values import INT, Numbers, Value, numbers
from helpers_onnx_text import refusal, result

X = Value("x", 3)
FAR = 2**63 - 1


@pytest.mark.parametrize(
    ("kind", "inputs", "config", "text"),
    [
        ("Slice", (X, numbers([1]), numbers([FAR]), numbers([-1]), numbers([2])), {}, "x[:, :, 1::2]"),
        ("Slice", (X, numbers([0]), numbers([FAR]), numbers([1])), {}, "x"),
        ("Slice", (X, numbers([-1]), numbers([-FAR]), numbers([2]), numbers([-1])), {}, "x.flip(2)"),
        ("Gather", (X, numbers(-1)), {"axis": 1}, "x[:, -1]"), ("Gather", (X, numbers([0, 2])), {}, "x[[0, 2]]"),
        ("Gather", (X, Value("rows", 2, INT)), {"axis": 1}, "x[:, rows]"),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(kind, inputs, config, text):
    assert result(kind, *inputs, **config).text == text


def test_the_number_of_axes_is_that_of_the_index_and_of_the_other_axes():
    assert result("Gather", X, numbers(-1), axis=1).rank == 2
    assert result("Gather", X, Value("rows", 2, INT), axis=1).rank == 4
    assert result("Gather", X, Value("rows", None, INT), axis=1).rank is None


def test_known_numbers_stay_known():
    found = result("Gather", numbers([5, 6, 7]), numbers([2, 0]))
    assert isinstance(found, Numbers)
    assert found.items == [7, 5]
    shape = result("Shape", X)
    assert result("Slice", shape, numbers([1]), numbers([FAR])).items == ["x.shape[1]", "x.shape[2]"]
    assert result("Gather", shape, numbers(1)).item == "x.shape[1]"


@pytest.mark.parametrize(
    ("kind", "inputs", "config", "why"),
    [
        ("Slice", (X, numbers([3]), numbers([0]), numbers([1]), numbers([-1])), {}, "a negative step"),
        ("Slice", (X, numbers([0]), numbers([1]), numbers([2**60])), {}, "axis 1152921504606846976"),
        ("Slice", (X, numbers([3]), numbers([0, 1])), {}, "different numbers"),
        ("GatherND", (X, X), {"batch_dims": 1}, "batch_dims"),
    ],
)  # fmt: skip
def test_what_is_not_written(kind, inputs, config, why):
    assert why in refusal(kind, *inputs, **config)
