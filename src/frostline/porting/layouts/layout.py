"""A layout: how the numbers of one source tensor lie, and how they lie in PyTorch; always with its inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Layout:
    """A transform of one tensor, and its inverse.

    Attributes:
        name: What it does, for people (`HWIO to OIHW`).
        forward: From the source's tensor to PyTorch's.
        inverse: Back; `inverse(forward(x))` equals `x` to the bit.
        slack: How much of a value may be lost on the way and back, where numbers are computed; relative.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    slack: float = 0.0

    def then(self, other: Layout) -> Layout:
        """This layout, and another one after it."""
        return Layout(
            f"{self.name}, then {other.name}",
            lambda tensor: other.forward(self.forward(tensor)),
            lambda tensor: self.inverse(other.inverse(tensor)),
            max(self.slack, other.slack),
        )


@dataclass(frozen=True)
class Combine:
    """How one tensor is computed from several, or from the numbers of one: nothing gives the bytes of these back.

    Attributes:
        name: What it does, for people (`g v / |v|`).
        of: Gives it, from the tensors after their layouts.
    """

    name: str
    of: Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Move:
    """How one tensor of the module is made.

    Attributes:
        target: Its name in its layer.
        sources: Leaves of the source unit that it is made of, in order; empty for a constant.
        layouts: One for each leaf: the results are joined along `axis`. Of a constant that is not one number, the
            layout that makes it of any tensor of its shape.
        axis: Along which several are joined.
        constant: What the tensor is filled with if it is made of no source tensor.
        combine: How the results become one, if they are not joined.
        whole: What is done with the joined tensor; None leaves it.
    """

    target: str
    sources: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    axis: int = 0
    constant: float = 0.0
    combine: Combine | None = None
    whole: Layout | None = None

    def text(self) -> str:
        """The layouts in words."""
        if not self.sources and not self.layouts:
            return f"constant {self.constant:g}"
        names = " | ".join(dict.fromkeys(layout.name for layout in self.layouts))
        names += f", joined, then {self.whole.name}" if self.whole else ""
        return f"computed, {self.combine.name}, of: {names}" if self.combine else names

    def forward(self, parts: tuple[Tensor, ...], like: Tensor) -> Tensor:
        """The tensor of the module: `parts` are the source tensors, `like` the tensor that it replaces."""
        if not self.sources:
            return self.layouts[0].forward(like) if self.layouts else torch.full_like(like, self.constant)
        return self.joined([layout.forward(part) for layout, part in zip(self.layouts, parts, strict=True)])

    def joined(self, made: list[Tensor]) -> Tensor:
        """The tensor of the module, from the source tensors after their layouts."""
        if self.combine is not None:
            return self.combine.of(made)
        whole = made[0] if len(made) == 1 else torch.cat(made, self.axis)
        return self.whole.forward(whole) if self.whole else whole

    def inverse(self, value: Tensor, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The source tensors again, from the tensor of the module, if they are not computed with.

        Args:
            value: The tensor of the module.
            parts: The source tensors, for their sizes.
        """
        if not self.sources or self.combine is not None:
            return ()
        value = self.whole.inverse(value) if self.whole else value
        sizes = [layout.forward(part).shape[self.axis] if part.ndim or len(parts) > 1 else 1
                 for layout, part in zip(self.layouts, parts, strict=True)]  # fmt: skip
        pieces = (value,) if len(parts) == 1 else torch.split(value, sizes, self.axis)
        return tuple(layout.inverse(piece) for layout, piece in zip(self.layouts, pieces, strict=True))


SAME = Layout("as it is", lambda tensor: tensor, lambda tensor: tensor)
TRANSPOSED = Layout("(in, out) to (out, in)", lambda tensor: tensor.mT, lambda tensor: tensor.mT)


def permuted(name: str, *axes: int) -> Layout:
    """The layout that orders the axes anew."""
    back = tuple(axes.index(axis) for axis in range(len(axes)))
    return Layout(name, lambda tensor: tensor.permute(axes), lambda tensor: tensor.permute(back))


def channels_first(theirs: tuple[int, ...], own: tuple[int, ...]) -> Layout:
    """The layout of a tensor over whole maps: channels come first where the module has them there, by its shape."""
    last = len(theirs) - 1
    if last < 1 or tuple(theirs) == tuple(own) or (theirs[last], *theirs[:last]) != tuple(own):
        return SAME
    return map_last(last)


def map_last(last: int) -> Layout:
    """The layout that moves the channels of a map from axis `last` to the front."""
    return permuted("(map, channels) to (channels, map)", last, *range(last))


def reshaped(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> Layout:
    """The layout that keeps the order of elements and gives them other axes."""
    return Layout(name, lambda tensor: tensor.reshape(after), lambda tensor: tensor.reshape(before))


def blocks(name: str, count: int, order: tuple[int, ...]) -> Layout:
    """The layout that puts `count` equal blocks of axis 0 into another order: block `order[i]` comes to place i."""
    back = tuple(order.index(block) for block in range(count))

    def ordered(tensor: Tensor, to: tuple[int, ...]) -> Tensor:
        parts = tensor.chunk(count, 0)
        return torch.cat([parts[block] for block in to])

    return Layout(name, lambda tensor: ordered(tensor, order), lambda tensor: ordered(tensor, back))


def flipped(name: str, *axes: int) -> Layout:
    """The layout that mirrors some axes."""
    return Layout(name, lambda tensor: tensor.flip(axes), lambda tensor: tensor.flip(axes))


def padded(name: str, before: int, after: int) -> Layout:
    """The layout that puts zeros before and behind the numbers of axis 0."""
    return Layout(
        name,
        lambda tensor: nn.functional.pad(tensor, (before, after)),
        lambda tensor: tensor[before : tensor.shape[0] - after],
    )
