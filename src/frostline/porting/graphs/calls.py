"""One operation of a run, with the arguments that the rules need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)  # sizes that identify axes


@dataclass(frozen=True)
class Call:
    """One operation.

    Attributes:
        func: The function, as in a torch-function mode.
        name: The name of the function.
        args: The positional arguments.
        kwargs: The keyword arguments.
        taken: The tensors among the arguments.
        known: The tensors among the arguments whose axes are known.
        made: The tensors of the result.
        units: The weights among the arguments, each with the unit that it belongs to or was computed from.
        number: The number of the operation in the run.
    """

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    taken: list[Tensor]
    known: list[Tensor]
    made: list[Tensor]
    units: list[tuple[str, Tensor]]
    number: int

    def given(self, name: str, at: int, default: int) -> int:
        """An integer among the arguments, by name and position."""
        value = self.kwargs.get(name, self.args[at] if len(self.args) > at else default)
        if not isinstance(value, int):
            raise TypeError
        return value

    def on_primes(self, count: int) -> Any:
        """The result of the operation for a tensor with `count` axes of different prime sizes."""
        return self.func(torch.ones(PRIMES[:count]), *self.args[1:], **self.kwargs)


def name_of(func: Any) -> str:
    """The name of a function of a torch-function mode."""
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    return name


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())
