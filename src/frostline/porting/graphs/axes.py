"""The meaning of the axes of a value (channels, or places of a feature map), kept through reshapes.

An axis is a sequence of factors, the slowest first: a flattened map has the factors (channels, height, width) on one
axis. Each factor is a part of an axis as one operation made it, the factor's origin. The sizes of a reshape decide
where an axis is divided, never what it means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHANNELS, PLACE = "channels", "place"
GIVEN = "given"  # the first or last axis of an input of the network: one of the two may be its channels
UNKNOWN = "unknown"  # channels or a place: the axis comes from an operation without a rule
BROKEN = "broken"  # parts of channels and places, in an order that cannot be followed
JOINED = "joined"  # pieces that were concatenated

# The axis of a layer's weights that stands for an axis of a value: inputs, outputs, features (of a layer that has one
# number for each feature), or an axis that is not known.
INPUTS, OUTPUTS, FEATURES, OTHER = "inputs", "outputs", "features", "other"


@dataclass(frozen=True, eq=False)
class Origin:
    """An axis as one operation made it.

    Attributes:
        size: The number of entries.
        role: The meaning of the axis, such as `CHANNELS`.
        place: The number of the operation, and the index of the axis in its result.
        unit: The layer whose output channels the axis is; empty if there is none.
        parents: The axes from which it was computed; for a joined axis its pieces.
        is_aligned: Whether each entry comes from the same entry of each parent, as in a sum.
        is_same: Whether it is the axis of its parents in another size, as in a pool.
    """

    size: int
    role: str
    place: tuple[int, int]
    unit: str = ""
    parents: tuple[Axis, ...] = ()
    is_aligned: bool = False
    is_same: bool = False


@dataclass(frozen=True)
class Factor:
    """A part of an axis: the digit `index // stride % size` of the index along its origin."""

    origin: Origin
    size: int
    stride: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether the factor is the complete axis that the operation made."""
        return self.size == self.origin.size


Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]


def whole(origin: Origin) -> Axis:
    """The axis that an operation made; an axis of size 1 has no factors."""
    return (Factor(origin, origin.size),) if origin.size != 1 else ()


def of_role(role: str, shape: Sequence[int], number: int, parents: tuple[Axis, ...] = ()) -> Axes:
    """The axes of a value that an operation made, all of one role."""
    return tuple(whole(Origin(size, role, (number, axis), parents=parents)) for axis, size in enumerate(shape))


def size_of(axis: Axis) -> int:
    """The number of entries of an axis."""
    return math.prod(factor.size for factor in axis)


def merged(axis: Sequence[Factor]) -> Axis:
    """The axis with neighbouring factors joined if they are neighbouring parts of one origin."""
    made: list[Factor] = []
    for factor in axis:
        last = made[-1] if made else None
        if last is not None and last.origin is factor.origin and last.stride == factor.stride * factor.size:
            made[-1] = Factor(factor.origin, last.size * factor.size, factor.stride)
        else:
            made.append(factor)
    return tuple(made)


def role_over(group: Sequence[Factor]) -> str:
    """The common role of factors that are combined element by element.

    A part of an axis of channels may be a place after a reshape: then only the complete factors of the group show the
    role.
    """
    roles = {one.origin.role for one in group}
    sure = {one.origin.role for one in group if one.is_whole} & {CHANNELS, PLACE}
    if roles & {BROKEN, JOINED}:
        return BROKEN
    return sure.pop() if len(sure) == 1 else UNKNOWN


def reshaped(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes after a reshape, which keeps the order of elements.

    Args:
        axes: The axes before the reshape.
        shape: The shape after it.

    Returns:
        None if the reshape cannot be followed: a size divides a factor with a remainder, or a factor is divided that
        shares its axis with others.
    """
    waiting = [factor for axis in axes for factor in axis]
    made: list[Axis] = []
    for size in shape:
        axis: list[Factor] = []
        wanted = size
        while wanted > 1:
            if not waiting:
                return None
            factor = waiting.pop(0)
            if wanted % factor.size == 0:
                axis.append(factor)
                wanted //= factor.size
            elif factor.size % wanted == 0 and factor.origin.role not in (JOINED, BROKEN):
                rest = factor.size // wanted
                axis.append(Factor(factor.origin, wanted, factor.stride * rest))
                waiting.insert(0, Factor(factor.origin, rest, factor.stride))
                wanted = 1
            else:
                return None
        made.append(merged(axis))
    together = {factor for axis in axes if len(axis) > 1 for factor in axis}
    kept = {factor for axis in made for factor in axis} | {one for axis in axes if len(axis) == 1 for one in axis}
    if waiting or any(_is_cut(factor, kept) for factor in together):
        return None
    return tuple(made)


def _is_cut(factor: Factor, kept: set[Factor]) -> bool:
    """Whether a factor, one of several on an axis, was divided: a network with another order of axes divides others."""
    return factor not in kept and not any(
        one.origin is factor.origin and one.size * one.stride >= factor.size * factor.stride
        and one.stride <= factor.stride for one in kept
    )  # fmt: skip


def cut_as(axis: Axis, sizes: Sequence[int]) -> Axis:
    """The axis divided into factors of these sizes, if it is a single factor; else the axis unchanged."""
    if len(axis) != 1 or axis[0].origin.role in (JOINED, BROKEN):
        return axis
    (factor,) = axis
    strides = [factor.stride * math.prod(sizes[at + 1 :]) for at in range(len(sizes))]
    return tuple(Factor(factor.origin, size, stride) for size, stride in zip(sizes, strides, strict=True))


@dataclass(frozen=True)
class Part:
    """One axis of a map that was flattened.

    Attributes:
        size: The number of entries.
        role: The meaning of the axis, such as `CHANNELS`.
        place: A key that sorts the axes of one map as in the value that was flattened; parts of one axis by stride.
    """

    size: int
    role: str
    place: tuple[int, ...]


Piece = tuple[Part, ...]
# By origin: the parts of it whose role later operations have shown, as stride and size, and this role.
Cuts = dict[Origin, dict[tuple[int, int], str]]


def resolved(axis: Axis, cuts: Cuts) -> tuple[Piece, ...]:
    """The maps on an axis, after all operations were followed: one, or several that were concatenated."""
    if len(axis) == 1 and axis[0].is_whole:
        origin = axis[0].origin
        is_joined = origin.is_same and len(origin.parents) > 1 and origin not in cuts and _is_of_maps(origin, cuts)
        if origin.role == JOINED or is_joined:
            return tuple(piece for parent in origin.parents for piece in resolved(parent, cuts))
    return (tuple(part for factor in axis for part in _parts(factor, cuts)),)


def _is_of_maps(origin: Origin, cuts: Cuts) -> bool:
    """Whether an axis is a resized or concatenated axis that later operations have shown to be a flattened map."""
    waiting, seen = [origin], {origin}
    while waiting:
        one = waiting.pop()
        parts = {factor for axis in one.parents for factor in axis} if one.is_same else set[Factor]()
        if any(not is_last(tuple(_parts_of_its_own(part, cuts))) for part in parts if part.origin in cuts):
            return True
        parents = {part.origin for part in parts}
        waiting += parents - seen
        seen |= parents
    return False


def _parts(factor: Factor, cuts: Cuts) -> Iterator[Part]:
    if _is_of_maps(factor.origin, cuts):
        yield Part(factor.size, BROKEN, factor.origin.place)
    else:
        yield from _parts_of_its_own(factor, cuts)


def _parts_of_its_own(factor: Factor, cuts: Cuts) -> Iterator[Part]:
    origin, stop = factor.origin, factor.stride * factor.size
    known = {
        cut: role for cut, role in cuts.get(origin, {}).items() if cut[0] >= factor.stride and cut[0] * cut[1] <= stop
    }
    role = BROKEN if origin.role == JOINED else origin.role
    divided = {cut for cut, shown in known.items() if shown == UNKNOWN and any(is_in(one, cut) for one in known)}
    if divided and role != BROKEN:  # the role of the whole is unknown, and that of some of its parts is known
        known, role = {cut: shown for cut, shown in known.items() if cut not in divided}, UNKNOWN
    for (stride, size), cut_role in sorted(known.items(), reverse=True):
        if stride * size > stop or stop % (stride * size):
            yield Part(stop // factor.stride, BROKEN, origin.place)
            return
        if stride * size < stop:
            yield Part(stop // (stride * size), role, (*origin.place, -stride * size))
        yield Part(size, cut_role, (*origin.place, -stride))
        stop = stride
    if stop > factor.stride:
        yield Part(stop // factor.stride, role, (*origin.place, -factor.stride))


def is_in(cut: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a part of an axis, as stride and size, is a part of another one."""
    return cut != other and cut[0] >= other[0] and cut[0] * cut[1] <= other[0] * other[1]


def is_last(piece: Piece) -> bool:
    """Whether the axes of a map are in the order of networks with channels last: places, then channels."""
    roles = [part.role for part in piece]
    if len(piece) <= 1:
        return BROKEN not in roles
    if not set(roles) <= {CHANNELS, PLACE}:
        return False
    places = [part.place for part in piece if part.role == PLACE]
    return roles == sorted(roles, reverse=True) and places == sorted(places)


def is_odd(axes: Axes, at: int, *, is_sure: bool) -> bool:
    """Whether a value was divided as in no network with channels last, so that no order of its weights is right.

    Args:
        axes: The axes of the value, the batch first.
        at: The index of the axis that is used as channels.
        is_sure: Whether an operation on feature maps uses it so, such as a convolution.
    """
    others = [axis for index, axis in enumerate(axes) if index not in (0, at)]
    if any({CHANNELS, PLACE} <= {one.origin.role for one in axis} for axis in others):
        return True
    parts = [one for one in axes[at] if not one.is_whole and one.origin.role == PLACE]
    if parts and len(parts) == len(axes[at]):
        return True
    if not is_sure:
        return False
    has_channels = any(one.origin.role == CHANNELS and one.is_whole for axis in others for one in axis)
    if has_channels and len(axes) > 3 and any(one.origin.role == PLACE for one in axes[at]):
        return True
    origins = [one.origin for axis in others for one in axis]
    is_cut = any(not one.is_whole and one.origin.role == CHANNELS for axis in others for one in axis)
    is_of_one = len({one.origin for axis in axes[1:] for one in axis}) == 1
    has_twice = any(one.role == PLACE and origins.count(one) > 1 for one in origins)
    return (is_cut and not is_of_one) or has_twice or any(one.stride != 1 for one in parts)
