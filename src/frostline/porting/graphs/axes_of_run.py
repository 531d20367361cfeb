"""The axes of every value of one run of a module, and what lies on the axes of its weights.

What an operation has no rule for gives axes of which nothing is known.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.porting.graphs import axis_rules, layer_rules
from frostline.porting.graphs.axes import (
    BROKEN,
    CHANNELS,
    FEATURES,
    GIVEN,
    INPUTS,
    JOINED,
    OTHER,
    OUTPUTS,
    PLACE,
    UNKNOWN,
    Factor,
    Origin,
    Part,
    cut_as,
    is_in,
    is_last,
    is_odd,
    of_role,
    resolved,
    role_over,
    size_of,
    whole,
)
from frostline.porting.graphs.calls import Call, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from frostline.porting.graphs.axes import Axes, Axis, Cuts, Piece


@dataclass(frozen=True)
class Flat:
    """An axis of a layer's weights that stands for a whole map.

    Attributes:
        side: The axis: `inputs` or `outputs` of a weight, `features` of a layer that has one number for each; `other`
            if it is not known which.
        pieces: What lies on it, in the order of the module.
    """

    side: str
    pieces: tuple[Piece, ...]


_NOT_FOLLOWED: Axis = (Factor(Origin(2, BROKEN, (0, 0)), 2),)


class AxesOfRun:
    """The axes of every value of one run.

    Args:
        is_guessed: Whether the inputs are not the user's, so that what is flattened at once may have had other axes.
    """

    def __init__(self, *, is_guessed: bool) -> None:
        self.is_guessed = is_guessed
        self._axes: dict[int, Axes] = {}
        self._inputs: list[Axes] = []
        self._cuts: Cuts = {}
        self._taken: list[tuple[str, str, Axis]] = []
        self._aligned: dict[Origin, list[tuple[Factor, Origin]]] = {}  # by origin: its parts, and the sums of them
        self._unfollowed: set[int] = set()  # values that could not be followed, and that no layer has taken yet
        self._number = itertools.count()

    def begin(self, value: Tensor) -> None:
        """An input of the network."""
        number, last = next(self._number), value.ndim - 1
        outer = GIVEN if value.ndim > 2 else CHANNELS
        roles = [outer if axis and axis in (1, last) else PLACE for axis in range(value.ndim)]
        self._axes[id(value)] = tuple(
            whole(Origin(size, role, (number, axis)))
            for axis, (size, role) in enumerate(zip(value.shape, roles, strict=True))
        )
        self._inputs.append(self._axes[id(value)])

    def end(self, value: Tensor) -> None:
        """An output of the network: features that were cut into axes may be a map."""
        if self.has(value):
            self.touch(self.of(value))
            if id(value) in self._unfollowed:
                self._taken += [(unit, OTHER, _NOT_FOLLOWED) for unit, _, _ in self._taken[-1:]]

    def is_input(self, axes: Axes) -> bool:
        """Whether they are those of an input of the network, as it was given."""
        return any(axes == one for one in self._inputs)

    def follow(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], tensors: tuple[list[Tensor], list[Tensor]],
        weights: Mapping[int, frozenset[str]],
    ) -> None:  # fmt: skip
        """One operation.

        Args:
            func: As of a torch-function mode.
            args: Its arguments.
            kwargs: Likewise.
            tensors: Those among the arguments, and those that it gave.
            weights: Of tensors, by identity: the units that they are of or were made of.
        """
        name = name_of(func)
        taken, made = tensors
        known = [one for one in taken if id(one) in self._axes]
        if not known or not made:
            return
        units = [(unit, one) for one in taken if id(one) in weights for unit in sorted(weights[id(one)])]
        rule = layer_rules.rule_of(name) or axis_rules.rule_of(name)
        number = next(self._number)
        try:
            axes = (
                rule(self, Call(func, name, tuple(args), kwargs, taken, known, made, units, number)) if rule else None
            )
        except (IndexError, KeyError, TypeError, ValueError, RuntimeError):  # called otherwise than the rule expects
            axes = None
        if axes is None:
            self._doubt(known, units)
            parents = tuple(axis for one in known for axis in self._axes[id(one)])
            is_broken = any(factor.origin.role == BROKEN for axis in parents for factor in axis)
            axes = [of_role(BROKEN if is_broken else UNKNOWN, one.shape, number, parents) for one in made]
        for one, its in zip(made, axes, strict=False):
            self._axes[id(one)] = its
        if any(id(one) in self._unfollowed for one in known):
            self.mark_unfollowed(made, [unit for unit, _ in units])

    def mark_unfollowed(self, made: Sequence[Tensor], units: Sequence[str] = ()) -> None:
        """Values that could not be followed: the next layers that take them have a doubt, whatever axes are left."""
        self._unfollowed.update(() if units else map(id, made))
        for unit in units:
            self.take(unit, OTHER, _NOT_FOLLOWED)

    def flats(self) -> dict[str, tuple[Flat, ...]]:
        """What lies on axes of the weights of each unit, where that is more than one axis of a map."""
        taken = list(self._taken)
        for origin in self._cuts:
            axis = whole(origin)
            if origin.unit:
                taken.append((origin.unit, OUTPUTS, axis))
            elif not origin.is_aligned and not all(map(is_last, resolved(axis, self._cuts))):
                users = [unit for unit, _, axis in self._taken if any(one.origin is origin for one in axis)]
                taken += [(unit, OTHER, _NOT_FOLLOWED) for unit in (*_makers(origin), *users)]
        found: dict[str, list[Flat]] = {}
        for unit, side, axis in taken:
            pieces = resolved(axis, self._cuts)
            if any(len(piece) > 1 or any(part.role == BROKEN for part in piece) for piece in pieces):
                flats = found.setdefault(unit, [])
                flat = Flat(side, pieces)
                before = next((one for one in flats if one.side == side), None)
                if before is None:
                    flats.append(flat)
                elif _shown(before) != _shown(flat):  # a layer that is called on values of two kinds
                    flats[flats.index(before)] = Flat(side, ((Part(0, BROKEN, ()),),))
        return {unit: tuple(flats) for unit, flats in found.items()}

    def of(self, value: Any) -> Axes:
        """The axes of a value."""
        return self._axes[id(value)]

    def has(self, value: Any) -> bool:
        """Whether its axes are known."""
        return id(value) in self._axes

    def show(self, axis: Axis, role: str) -> None:
        """Parts of an axis that is used as channels, or as places, are that."""
        for factor in axis:
            origin = factor.origin
            if origin.role in (JOINED, BROKEN) or (factor.is_whole and origin.role in (CHANNELS, PLACE)):
                continue
            cuts = self._cuts.setdefault(origin, {})
            cut = (factor.stride, factor.size)
            if cuts.get(cut) in (role, BROKEN) or (cut in cuts and role == UNKNOWN):
                continue
            cuts[cut] = role if cuts.get(cut, UNKNOWN) == UNKNOWN else BROKEN
            for part, other in self._aligned.get(origin, ()):
                self._show_of_part(factor, role, part, other)
            for parent in origin.parents:
                if len(parent) == 1 and origin.is_aligned:
                    self.show((Factor(parent[0].origin, factor.size, factor.stride * parent[0].stride),), role)
                elif len(parent) == 1 and origin.is_same and factor.is_whole:
                    self.show(parent, role)

    def _show_of_part(self, factor: Factor, role: str, part: Factor, other: Origin) -> None:
        """What a part of an axis has shown, its sum with others shows, too."""
        if factor.stride >= part.stride and factor.stride * factor.size <= part.stride * part.size:
            self.show((Factor(other, factor.size, factor.stride // part.stride),), role)

    def use(self, units: Sequence[str], axes: Axes, at: int, *, is_sure: bool) -> None:
        """Layers take a value: one axis is channels, the others are places.

        Args:
            units: The layers.
            axes: Of the value.
            at: Of the channels.
            is_sure: Whether that follows from the operation, as of a convolution; a linear layer takes what is last,
                and a module that had to bring channels there may have them elsewhere in the source, too.
        """
        for unit in units:
            self.take(unit, INPUTS, axes[at])
            if is_odd(axes, at, is_sure=is_sure):
                self.take(unit, OTHER, _NOT_FOLLOWED)
        if is_sure:
            self.doubt_unknown(axes)
        is_alone = is_sure and len(axes[at]) == 1  # parts of several have been turned: their order is not that of roles
        for factor in _pieces(axes[at]):
            is_at_end = factor is axes[at][-1] and factor.stride == 1 and not self._is_divided(factor)
            if is_sure or factor.origin.role == CHANNELS or factor.origin.is_aligned or factor.origin.is_same:
                self.show((factor,), CHANNELS if is_alone or is_at_end else UNKNOWN)
        has_known_roles = is_sure or UNKNOWN not in {one.origin.role for one in axes[at]}
        for index, axis in enumerate(axes):
            if index != at and has_known_roles:
                self.show(axis, PLACE)

    def _is_divided(self, factor: Factor) -> bool:
        """Whether parts of it have shown something: they may be sides of a map."""
        cut = (factor.stride, factor.size)
        return any(is_in(one, cut) for one in self._cuts.get(factor.origin, ()))

    def touch(self, axes: Axes, at: int | None = None) -> bool:
        """An operation treats one axis otherwise than the others: features that were cut into axes may be a map.

        Args:
            axes: Of the value.
            at: The axis, if the operation takes the last one for channels, as networks with channels last do.

        Returns:
            Whether it can be followed.
        """
        if at is None or at % len(axes) != len(axes) - 1:
            cut = [one for axis in axes for one in axis if not one.is_whole and one.origin.role == CHANNELS]
            for origin in dict.fromkeys(one.origin for one in cut):
                if sum(any(one.origin is origin for one in axis) for axis in axes) > 1:
                    self.show(tuple(one for one in cut if one.origin is origin), UNKNOWN)
        return not any(
            CHANNELS in {one.origin.role for one in axis}
            and any(one.origin.role == PLACE and not one.is_whole and one.stride != 1 for one in axis)
            for axis in axes
        )

    def take_features(self, unit: str, axes: Sequence[Axis]) -> None:
        """A unit has one number for each entry of some axes, element by element."""
        together = tuple(factor for axis in axes for factor in axis)
        if len(axes) < 2 or all(factor.is_whole for factor in together):
            self.take(unit, FEATURES, together)
        else:
            for axis in axes:
                self.take(unit, OTHER, axis)

    def doubt_makers(self, axes: Axes) -> None:
        """What was made of an axis that was cut cannot be followed: its layers may have their outputs in any order."""
        for origin in {one.origin for axis in axes for one in axis if not one.is_whole}:
            for unit in (origin.unit, *_makers(origin)):
                if unit:
                    self.take(unit, OTHER, _NOT_FOLLOWED)

    def doubt_unknown(self, axes: Axes) -> None:
        """Maps that an operation without a rule made may have been made of features that were cut."""
        for origin in {one.origin for axis in axes for one in axis}:
            if origin.role == UNKNOWN and not (origin.is_aligned or origin.is_same):
                self.doubt_makers(origin.parents)

    def take(self, unit: str, side: str, axis: Axis) -> None:
        """A unit has weights along an axis."""
        self._taken.append((unit, side, axis))

    def _doubt(self, known: Sequence[Tensor], units: Sequence[tuple[str, Tensor]]) -> None:
        """Layers of an operation without a rule: where their features lie is not known."""
        for unit, _ in units:
            for one in known:
                for axis in self.of(one):
                    self.take(unit, OTHER, axis)

    def together(self, values: Sequence[Axes], shape: Sequence[int], number: int) -> Axes:
        """The axes of values of which one is computed element by element; they are aligned from the right."""
        made: list[Axis] = []
        for axis in range(-len(shape), 0):
            found = [value[axis] for value in values if len(value) >= -axis and value[axis]]
            distinct = list(dict.fromkeys(found))
            made.append(self._unified(distinct, (number, axis + len(shape))) if distinct else ())
        return tuple(made)

    def _unified(self, axes: Sequence[Axis], place: tuple[int, int]) -> Axis:
        """One axis for several that lie over each other."""
        if len(axes) == 1:
            return axes[0]
        sizes = max(([factor.size for factor in axis] for axis in axes), key=len)
        axes = [cut_as(axis, sizes) for axis in axes]
        if any([factor.size for factor in axis] != sizes for axis in axes):
            size = size_of(axes[0])
            return whole(Origin(size, BROKEN, place, parents=tuple(axes)))
        made: list[Factor] = []
        for group in zip(*axes, strict=True):
            if all(one == group[0] for one in group):
                made.append(group[0])
                continue
            role = role_over(group)
            if any(one.origin.role == JOINED for one in group):
                role = JOINED if _are_alike([one.origin for one in group]) else BROKEN
            elif role in (CHANNELS, PLACE):
                self.show(group, role)
            first = group[0].origin
            parents = first.parents if role == JOINED else tuple((one,) for one in group)
            place = next((one.origin.place for one in group if one.is_whole), first.place)
            origin = Origin(group[0].size, role, place, parents=parents, is_aligned=role != JOINED)
            made.append(Factor(origin, group[0].size))
            for one in group if origin.is_aligned else ():
                self._aligned.setdefault(one.origin, []).append((one, origin))
                for (stride, size), shown in list(self._cuts.get(one.origin, {}).items()):
                    self._show_of_part(Factor(one.origin, size, stride), shown, one, origin)
        return tuple(made)


def _pieces(axis: Axis) -> Iterator[Factor]:
    for factor in axis:
        if factor.origin.role == JOINED:
            for piece in factor.origin.parents:
                yield from _pieces(piece)
        else:
            yield factor


def _makers(origin: Origin) -> Iterator[str]:
    """The layers whose channels an axis was made of."""
    waiting, seen = [origin], {origin}
    while waiting:
        for factor in (one for parent in waiting.pop().parents for one in parent):
            if factor.origin not in seen:
                seen.add(factor.origin)
                waiting.append(factor.origin)
                if factor.origin.unit:
                    yield factor.origin.unit


def _shown(flat: Flat) -> list[list[tuple[int, str]]]:
    return [[(part.size, part.role) for part in piece] for piece in flat.pieces]


def _are_alike(origins: Sequence[Origin]) -> bool:
    """Whether pieces that were joined are of the same sizes and roles."""
    forms = [[[(one.size, one.origin.role) for one in parent] for parent in origin.parents] for origin in origins]
    return all(form == forms[0] for form in forms)
