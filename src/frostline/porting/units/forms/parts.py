"""Parts of a tensor of the file as separate tensors."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.porting.readers.contract import SourceTensor


def part(tensor: SourceTensor, name: str, shape: tuple[int, ...], take: Callable[[Tensor], Tensor]) -> SourceTensor:
    """A part of a source tensor as a separate tensor; the parts of one tensor must cover it.

    Args:
        tensor: The whole tensor.
        name: The suffix of the part's name, after the name of the whole.
        shape: The shape of the part.
        take: Returns the part of the loaded tensor.
    """
    return replace(tensor, name=f"{tensor.name}{name}", shape=shape, load=lambda: take(tensor.load()))


def row(tensor: SourceTensor, index: int) -> SourceTensor:
    """One entry along the first axis."""
    return part(tensor, f"[{index}]", tensor.shape[1:], lambda whole: whole[index])


def each_along(tensor: SourceTensor, axis: int) -> list[SourceTensor]:
    """Every entry along an axis; the whole is read once for all of them, and freed when each was read."""
    loaded: list[Tensor] = []
    remaining: set[int] = set()

    def load(index: int) -> Tensor:
        if not loaded:
            loaded.append(tensor.load())
            remaining.update(range(tensor.shape[axis]))
        found = loaded[0].select(axis, index)
        remaining.discard(index)
        if not remaining:
            loaded.clear()
        return found

    shape, before = (*tensor.shape[:axis], *tensor.shape[axis + 1 :]), ":, " * axis
    return [replace(tensor, name=f"{tensor.name}[{before}{index}]", shape=shape, load=partial(load, index))
            for index in range(tensor.shape[axis])]  # fmt: skip


def rows(tensor: SourceTensor, start: int, stop: int) -> SourceTensor:
    """Some entries along the first axis."""
    return part(tensor, f"[{start}:{stop}]", (stop - start, *tensor.shape[1:]), lambda whole: whole[start:stop])


def under(unit: str, name: str) -> str:
    """The name of a unit in the scope of another one, whose name may be empty."""
    return f"{unit}/{name}" if unit and name else unit or name
