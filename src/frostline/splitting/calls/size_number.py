"""A size of a tensor as the recorded code sees it: an integer that reports comparisons and other decisions.

Sums and products of sizes are linear in the batch size, and the two recordings determine them. A comparison, a division
or a look-up may give another result at another batch size; after one, the head is proven at every batch size it is used
with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class SizeNumber(int):
    """An integer that calls `decided` when something but a sum or a product is made of it."""

    decided: Callable[[], None]

    @classmethod
    def of(cls, value: int, decided: Callable[[], None]) -> SizeNumber:
        """The size `value`."""
        made = cls(value)
        made.decided = decided
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int.__int__(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> int:
        return int.__int__(self)


def tracked(result: Any, decided: Callable[[], None]) -> Any:
    """A size or shape whose numbers notice decisions."""
    if isinstance(result, torch.Size):
        return torch.Size([SizeNumber.of(size, decided) for size in result])
    if isinstance(result, tuple):
        return tuple(SizeNumber.of(size, decided) for size in result)
    return SizeNumber.of(result, decided) if type(result) is int else result


def plain(value: Any) -> Any:
    """The same number without the notice."""
    return int.__int__(value) if isinstance(value, SizeNumber) else value


def _arithmetic(name: str) -> Callable[..., Any]:
    compute = getattr(int, name)

    def method(self: SizeNumber, *others: Any) -> Any:
        result = compute(self, *map(plain, others))
        return SizeNumber.of(result, self.decided) if type(result) is int else result

    return method


def _decision(name: str) -> Callable[..., Any]:
    compute = getattr(int, name)

    def method(self: SizeNumber, *others: Any) -> Any:
        self.decided()
        return compute(self, *map(plain, others))

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "neg", "pos"):
    setattr(SizeNumber, f"__{_name}__", _arithmetic(f"__{_name}__"))
for _name in (
    "eq", "ne", "lt", "le", "gt", "ge", "bool", "hash", "floordiv", "rfloordiv", "mod", "rmod", "divmod", "rdivmod",
    "truediv", "rtruediv", "pow", "rpow", "int", "float", "and", "rand", "or", "ror", "xor", "rxor", "lshift",
    "rlshift", "rshift", "rrshift", "format", "str", "abs", "round", "trunc", "floor", "ceil",
):  # fmt: skip
    setattr(SizeNumber, f"__{_name}__", _decision(f"__{_name}__"))
