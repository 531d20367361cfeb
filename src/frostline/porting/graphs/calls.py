"""One operation of a run, as rules look at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


@dataclass(frozen=True)
class Call:
    """One operation.

    Attributes:
        func: As of a torch-function mode.
        name: Of it.
        args: Its arguments.
        kwargs: Likewise.
        taken: The tensors among them.
        known: Those of them whose axes are known.
        made: The tensors that it gave.
        units: Weights among the tensors, and the units that they are of or were made of.
        number: Of the operation in the run.
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
        """A number among the arguments."""
        value = self.kwargs.get(name, self.args[at] if len(self.args) > at else default)
        if not isinstance(value, int):
            raise TypeError
        return value

    def on_primes(self, count: int) -> Any:
        """What the operation makes of a value whose axes have sizes that no two share."""
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
