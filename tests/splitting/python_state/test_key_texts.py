import array
import collections
import decimal
import enum
import fractions
import functools
import random
import threading

import numpy as np
import pytest
import torch

from frostline.splitting.python_state.key_texts import Unnamed, code_text, text_of

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Choice(enum.Enum):
    ONE, TWO = 1, 2


class Loud(float):
    def __repr__(self):
        return "always the same"


class Limit:
    def __init__(self, limit):
        self.limit = limit

    def __call__(self, value):
        return min(value, self.limit)


class Marked(np.ndarray):
    mark = 0


def marked(mark):
    made = np.ones(2).view(Marked)
    made.mark = mark
    return made


def limited(limit):
    return lambda value: min(value, limit)


def with_default(limit):
    return lambda value, limit=limit: min(value, limit)


def through_table(limit):
    table = {"limits": [np.float32(limit)]}
    return lambda value: min(value, table["limits"][0])


PAIRS = {
    "a number of NumPy": lambda v: np.float32(v),
    "a half": lambda v: np.float16(v),
    "a count": lambda v: np.int64(v),
    "an array": lambda v: np.full(3, v),
    "an array in a list in a dict": lambda v: {"a": [np.full(3, v)]},
    "an array of objects": lambda v: np.array([v, [v]], dtype=object),
    "a large array that differs in the middle": lambda v: np.where(np.arange(5000) == 2500, v, 0),
    "an attribute of a kind of array": marked,
    "a masked array": lambda v: np.ma.masked_equal(np.array([2, 3, 4]), v),
    "Python's array": lambda v: array.array("f", [v]),
    "a view of memory": lambda v: memoryview(array.array("f", [v])),
    "bytes": lambda v: bytearray([v]),
    "a range": lambda v: range(v),
    "a queue": lambda v: collections.deque([v]),
    "a set": lambda v: {"x", v},
    "a fraction": lambda v: fractions.Fraction(v, 7),
    "a decimal": lambda v: decimal.Decimal(v),
    "a slice": lambda v: slice(np.int64(v)),
    "an enumeration": lambda v: Choice(v - 1),
    "a number that hides itself": Loud,
    "a tensor": lambda v: torch.tensor([v]),
    "a function": limited,
    "a function with a default": with_default,
    "a function that looks into a table": through_table,
    "a part of a function": lambda v: functools.partial(min, v),
    "a function of a library": lambda v: (torch.sin, torch.cos)[v - 2],
    "a ufunc": lambda v: (np.sin, np.cos)[v - 2],
    "a method": lambda v: Limit(v).__call__,
    "an object": Limit,
    "a generator": lambda v: torch.Generator().manual_seed(v),
    "NumPy's generator": lambda v: np.random.default_rng(v),
    "Python's generator": lambda v: random.Random(v),
    "a traced function": lambda v: torch.jit.trace(lambda x: x * v, torch.ones(2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_text_follows_the_content_and_nothing_else(name):
    make = PAIRS[name]
    assert text_of(make(2)) == text_of(make(2))
    assert text_of(make(2)) != text_of(make(3))


def test_kinds_are_told_apart():
    values = [1, 1.0, True, "1", b"1", None, np.float32(1), np.float64(1), np.int8(1), np.ones(1), np.ones((1, 1)),
              [1], (1,), {1: 1}, {1}, slice(1), range(1), ..., torch.float32, np.array(1), np.array([1])]  # fmt: skip
    assert len({text_of(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    "value", [iter([1]), object(), threading.Lock(), (part for part in [1]), torch.nn.Linear(1, 1), limited(iter([1]))]
)
def test_what_cannot_be_read_has_no_text(value):
    with pytest.raises(Unnamed):
        text_of(value)
    with pytest.raises(Unnamed):
        text_of({"deep": [value]})


def test_a_container_that_holds_itself_has_no_text():
    endless = []
    endless.append(endless)
    with pytest.raises(Unnamed, match="containers deep"):
        text_of(endless)


def test_a_function_that_reads_a_trainable_weight_has_no_text():
    weight = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(Unnamed, match="trainable weight"):
        code_text(lambda value: value * float(weight))


def test_a_function_is_known_by_what_it_reads_of_a_module():
    def of(scale, other):
        module = torch.nn.Linear(1, 1)
        module.scale, module.other = scale, other
        return code_text(lambda value: value * module.scale)

    assert of(1.0, 1.0) == of(1.0, 2.0) != of(2.0, 1.0)
