"""Values of a graph in the text of a module: expressions of tensors, and numbers that Python computes.

Sizes of tensors, and numbers that are computed from them, are Python numbers in the module:
`x.reshape(x.shape[0], -1)` for a chain of Shape, Gather, Unsqueeze, Concat and Reshape.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.porting.scaffold.python_text import literal

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT, INT, BOOL = "float", "int", "bool"
Item = int | float | bool | str  # a number, or the expression of one

_MOST = 4096  # numbers in one array that Python computes
_INNERMOST = re.compile(r"\([^()\[\]]*\)|\[[^()\[\]]*\]")


@dataclass(frozen=True)
class Value:
    """A tensor.

    Attributes:
        text: The expression.
        rank: The number of axes; None if it is not known.
        kind: The kind of its elements.
    """

    text: str
    rank: int | None = None
    kind: str = FLOAT

    @property
    def atom(self) -> str:
        """The expression as a part of a larger one."""
        return atom(self.text)


@dataclass(frozen=True)
class Numbers:
    """An array of numbers that are known, or that Python computes from sizes.

    Attributes:
        data: The numbers and expressions, as an array of objects.
        kind: The kind of its elements.
    """

    data: np.ndarray[Any, Any]
    kind: str = INT

    def __post_init__(self) -> None:
        check_size(self.data.size)

    @property
    def rank(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def is_known(self) -> bool:
        """Whether no element is an expression."""
        return not any(isinstance(one, str) for one in self.data.flat)

    @property
    def items(self) -> list[Item]:
        """The elements in order."""
        return list(self.data.reshape(-1))

    @property
    def item(self) -> Item:
        """The only element."""
        (only,) = self.items
        return only

    @property
    def text(self) -> str:
        """The elements as Python text, in nested lists."""
        return _nested(self.data)

    def like(self, data: np.ndarray[Any, Any]) -> Numbers:
        """An array of the same kind with other data."""
        return Numbers(data, self.kind)


def check_size(size: float) -> None:
    """Refuse arrays that are too large for sizes of tensors: a hostile file could make them grow without bound."""
    if size > _MOST:
        raise ValueError(f"an array of {size:.0f} numbers that are computed from sizes")


def numbers(values: Any) -> Numbers:
    """Numbers of a file, from nested lists or from one number."""
    data = objects(values)
    first = data.flat[0] if data.size else 0
    kind = BOOL if isinstance(first, bool) else INT if isinstance(first, int) else FLOAT
    return Numbers(data, kind)


def objects(values: Any) -> np.ndarray[Any, Any]:
    """An array of objects."""
    return np.array(values, dtype=object)


def atom(text: str) -> str:
    """An expression as a part of a larger one, in parentheses if necessary."""
    outside, before = text, ""
    while outside != before:
        outside, before = _INNERMOST.sub("", outside), outside
    return text if re.fullmatch(r"[\w.]*", outside) else f"({text})"


def written(item: Item) -> str:
    """A number or its expression as the text of an argument."""
    return item if isinstance(item, str) else literal(item)


def part(item: Item) -> str:
    """A number or its expression as a part of a larger expression."""
    return atom(item) if isinstance(item, str) else literal(item) if item >= 0 else f"({literal(item)})"


def elementwise(function: Callable[..., Item], *arrays: Numbers, kind: str) -> Numbers:
    """Apply a function to the elements of arrays that are broadcast."""
    check_size(math.prod(np.broadcast_shapes(*(one.data.shape for one in arrays))))
    spread = np.broadcast_arrays(*(one.data for one in arrays))
    made = np.empty(spread[0].shape, dtype=object)
    for index in np.ndindex(made.shape):
        made[index] = function(*(one[index] for one in spread))
    return Numbers(made, kind)


def operation(sign: str, compute: Callable[[Any, Any], Any]) -> Callable[[Item, Item], Item]:
    """A binary operator on items: computed if both are known, else an expression."""

    def apply(one: Item, other: Item) -> Item:
        if not isinstance(one, str) and not isinstance(other, str):
            return compute(one, other)
        if (sign, other) in (("*", 1), ("+", 0), ("-", 0), ("//", 1)):
            return one
        if (sign, one) in (("*", 1), ("+", 0)):
            return other
        return f"{part(one)} {sign} {part(other)}"

    return apply


def _nested(data: np.ndarray[Any, Any]) -> str:
    if data.ndim == 0:
        return written(data.item())
    return f"[{', '.join(_nested(one) if isinstance(one, np.ndarray) else written(one) for one in data)}]"
