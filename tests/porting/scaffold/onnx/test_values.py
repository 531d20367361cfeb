import operator

import numpy as np
import pytest

from frostline.porting.scaffold.onnx.values import (
    BOOL,
    FLOAT,
    INT,
    Numbers,
    Value,
    atom,
    elementwise,
    numbers,
    objects,
    operation,
    part,
    written,
)


@pytest.mark.parametrize(
    "text", ["x", "self.norm.weight", "x[:, 0]", "F.relu(x + 1)", "x.shape[0]", "[1, 2]", "(a + b)"]
)
def test_what_stands_alone_needs_no_parentheses(text):
    assert atom(text) == text


@pytest.mark.parametrize("text", ["a + b", "-x", "f(a) + g(b)", "(a) * (b)", "x if y else z"])
def test_what_does_not_gets_them(text):
    assert Value(text).atom == f"({text})"


def test_numbers_of_a_file():
    assert (numbers([1, 2]).kind, numbers(0.5).kind, numbers([[True]]).kind, numbers([]).kind) == (
        INT,
        FLOAT,
        BOOL,
        INT,
    )
    assert numbers([[1, 2], [3, 4]]).text == "[[1, 2], [3, 4]]"
    assert numbers(0.5).text == "0.5"
    assert (numbers(3).item, numbers([[7]]).item, numbers([[1, 2]]).rank) == (3, 7, 2)


def test_what_is_known_is_computed_and_the_rest_is_written():
    size = Numbers(objects(["x.shape[0]", 4]))
    assert not size.is_known
    assert elementwise(operation("*", operator.mul), size, numbers(2), kind=INT).items == ["x.shape[0] * 2", 8]
    assert elementwise(operation("-", operator.sub), numbers(-2), size, kind=INT).items == ["(-2) - x.shape[0]", -6]
    assert operation("*", operator.mul)("n", 1) == operation("+", operator.add)(0, "n") == "n"
    assert operation("//", operator.floordiv)("a + b", 2) == "(a + b) // 2"


def test_an_item_as_an_argument_and_as_a_part():
    assert (written(-1), part(-1), part(2), part("a - b"), written("a - b")) == ("-1", "(-1)", "2", "(a - b)", "a - b")


def test_arrays_of_a_hostile_file_do_not_grow():
    with pytest.raises(ValueError, match="an array of 1000000 numbers"):
        elementwise(operator.add, numbers([[1]] * 1000), numbers([1] * 1000), kind=INT)
    with pytest.raises(ValueError, match="an array of 5000 numbers"):
        numbers([0] * 5000)


def test_arrangements_keep_the_kind():
    turned = numbers([[0.5, 1.5]]).like(np.array([[0.5], [1.5]], dtype=object))
    assert (turned.kind, turned.data.shape) == (FLOAT, (2, 1))
