"""Layouts: transforms from a tensor of the file to a tensor of PyTorch, each with its inverse."""

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
        name: A description, for messages (`HWIO to OIHW`).
        forward: The transform from the tensor of the file to that of PyTorch.
        inverse: The inverse transform: `inverse(forward(x))` equals `x` to the bit.
        slack: The largest relative error of `inverse(forward(x))`, for transforms that compute values.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    slack: float = 0.0

    def then(self, other: Layout) -> Layout:
        """The composition: this layout, followed by another one."""
        return Layout(
            f"{self.name}, then {other.name}",
            lambda tensor: other.forward(self.forward(tensor)),
            lambda tensor: self.inverse(other.inverse(tensor)),
            max(self.slack, other.slack),
        )


@dataclass(frozen=True)
class Combine:
    """A computation of one tensor from several, or from the values of one; it has no inverse.

    Attributes:
        name: A description, for messages (`g v / |v|`).
        of: Computes the tensor, from the source tensors after their layouts.
    """

    name: str
    of: Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Move:
    """The construction of one tensor of the module.

    Attributes:
        target: The name of the tensor in its layer.
        sources: The leaves of the source unit from which it is constructed, in order; empty for a constant.
        layouts: One layout for each leaf; the results are concatenated along `axis`. For a constant tensor that is not
            uniform, a layout that computes it from any tensor of its shape.
        axis: The axis of the concatenation.
        constant: The value of all elements, if there are no source tensors.
        combine: A computation that replaces the concatenation.
        whole: A layout that is applied after the concatenation; None for none.
    """

    target: str
    sources: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    axis: int = 0
    constant: float = 0.0
    combine: Combine | None = None
    whole: Layout | None = None

    def text(self) -> str:
        """A description of the layouts, for messages."""
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
        """Reconstruct the source tensors from the tensor of the module; empty if the move has no inverse.

        Args:
            value: The tensor of the module.
            parts: The source tensors; only their sizes are used.
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
    """A permutation of the axes."""
    back = tuple(axes.index(axis) for axis in range(len(axes)))
    return Layout(name, lambda tensor: tensor.permute(axes), lambda tensor: tensor.permute(back))


def channels_first(theirs: tuple[int, ...], own: tuple[int, ...]) -> Layout:
    """The layout of a tensor with spatial axes: channels move to the front if the shape of the module requires it."""
    last = len(theirs) - 1
    if last < 1 or tuple(theirs) == tuple(own) or (theirs[last], *theirs[:last]) != tuple(own):
        return SAME
    return map_last(last)


def map_last(last: int) -> Layout:
    """The layout that moves the channels of a map from axis `last` to the front."""
    return permuted("(map, channels) to (channels, map)", last, *range(last))


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of length 1."""
    return tuple(size for size in shape if size != 1)


def reshaped(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> Layout:
    """A reshape; the order of the elements does not change."""
    return Layout(name, lambda tensor: tensor.reshape(after), lambda tensor: tensor.reshape(before))


def blocks(name: str, count: int, order: tuple[int, ...]) -> Layout:
    """A permutation of `count` equal blocks of axis 0: block `order[i]` moves to position i."""
    back = tuple(order.index(block) for block in range(count))

    def ordered(tensor: Tensor, to: tuple[int, ...]) -> Tensor:
        parts = tensor.chunk(count, 0)
        return torch.cat([parts[block] for block in to])

    return Layout(name, lambda tensor: ordered(tensor, order), lambda tensor: ordered(tensor, back))


def flipped(name: str, *axes: int) -> Layout:
    """A reversal of some axes."""
    return Layout(name, lambda tensor: tensor.flip(axes), lambda tensor: tensor.flip(axes))


def padded(name: str, before: int, after: int) -> Layout:
    """Padding of axis 0 with zeros."""
    return Layout(
        name,
        lambda tensor: nn.functional.pad(tensor, (before, after)),
        lambda tensor: tensor[before : tensor.shape[0] - after],
    )
