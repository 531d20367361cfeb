"""The axes of every value in one run of a module, and from them the flattened maps on the axes of its weights.

Each operation of the run is followed by a rule of `axis_rules` or `layer_rules`. The result of an operation without a
rule has axes of unknown meaning.
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
        side: The axis: `inputs` or `outputs` of a weight, `features` of a layer with one number for each feature;
            `other` if the axis is not known.
        pieces: The maps on it, in the order of the module.
    """

    side: str
    pieces: tuple[Piece, ...]


_NOT_FOLLOWED: Axis = (Factor(Origin(2, BROKEN, (0, 0)), 2),)


class AxesOfRun:
    """The axes of every value in one run.

    Args:
        is_guessed: Whether the inputs were made here, so that an input that is flattened at once may have other axes in
            the user's data.
    """

    def __init__(self, *, is_guessed: bool) -> None:
        self.is_guessed = is_guessed
        self._axes: dict[int, Axes] = {}
        self._inputs: list[Axes] = []
        self._cuts: Cuts = {}
        self._taken: list[tuple[str, str, Axis]] = []
        self._aligned: dict[Origin, list[tuple[Factor, Origin]]] = {}  # by origin: its factors, and sums with others
        self._unfollowed: set[int] = set()  # values that could not be followed, and that no layer has used yet
        self._number = itertools.count()

    def begin(self, value: Tensor) -> None:
        """Register an input of the network."""
        number, last = next(self._number), value.ndim - 1
        outer = GIVEN if value.ndim > 2 else CHANNELS
        roles = [outer if axis and axis in (1, last) else PLACE for axis in range(value.ndim)]
        self._axes[id(value)] = tuple(
            whole(Origin(size, role, (number, axis)))
            for axis, (size, role) in enumerate(zip(value.shape, roles, strict=True))
        )
        self._inputs.append(self._axes[id(value)])

    def end(self, value: Tensor) -> None:
        """Register an output of the network: features that were divided into axes may be a map."""
        if self.has(value):
            self.touch(self.of(value))
            if id(value) in self._unfollowed:
                self._taken += [(unit, OTHER, _NOT_FOLLOWED) for unit, _, _ in self._taken[-1:]]

    def is_input(self, axes: Axes) -> bool:
        """Whether these are the axes of an input of the network, unchanged."""
        return any(axes == one for one in self._inputs)

    def follow(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], tensors: tuple[list[Tensor], list[Tensor]],
        weights: Mapping[int, frozenset[str]],
    ) -> None:  # fmt: skip
        """Determine the axes of the results of one operation.

        Args:
            func: The function, as in a torch-function mode.
            args: The positional arguments.
            kwargs: The keyword arguments.
            tensors: The tensors among the arguments, and the tensors of the result.
            weights: By identity of a tensor: the units whose weights it is, or was computed from.
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
        except (IndexError, KeyError, TypeError, ValueError, RuntimeError):  # arguments that the rule does not expect
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
        """Mark values as not followed: the order of axes is in doubt for the next layers that use them."""
        self._unfollowed.update(() if units else map(id, made))
        for unit in units:
            self.take(unit, OTHER, _NOT_FOLLOWED)

    def flats(self) -> dict[str, tuple[Flat, ...]]:
        """By unit: the axes of its weights that stand for more than one axis of a map."""
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
                elif _shown(before) != _shown(flat):  # a layer that is called on values with different axes
                    flats[flats.index(before)] = Flat(side, ((Part(0, BROKEN, ()),),))
        return {unit: tuple(flats) for unit, flats in found.items()}

    def of(self, value: Any) -> Axes:
        """The axes of a value."""
        return self._axes[id(value)]

    def has(self, value: Any) -> bool:
        """Whether the axes of a value are known."""
        return id(value) in self._axes

    def show(self, axis: Axis, role: str) -> None:
        """Record the role in which an operation uses an axis, for the factors of the axis whose role is not known."""
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
        """Record the role of a factor for the sum of its axis with others as well."""
        if factor.stride >= part.stride and factor.stride * factor.size <= part.stride * part.size:
            self.show((Factor(other, factor.size, factor.stride // part.stride),), role)

    def use(self, units: Sequence[str], axes: Axes, at: int, *, is_sure: bool) -> None:
        """Register a value as the input of layers: one axis is channels, the others are places.

        Args:
            units: The layers.
            axes: The axes of the value.
            at: The index of the channels.
            is_sure: Whether the operation implies this, as a convolution does. A linear layer is applied to the last
                axis: if the module moved the channels there, they may be elsewhere in the source network.
        """
        for unit in units:
            self.take(unit, INPUTS, axes[at])
            if is_odd(axes, at, is_sure=is_sure):
                self.take(unit, OTHER, _NOT_FOLLOWED)
        if is_sure:
            self.doubt_unknown(axes)
        # Several factors on one axis were transposed before: their order does not follow from their roles.
        is_alone = is_sure and len(axes[at]) == 1
        for factor in _pieces(axes[at]):
            is_at_end = factor is axes[at][-1] and factor.stride == 1 and not self._is_divided(factor)
            if is_sure or factor.origin.role == CHANNELS or factor.origin.is_aligned or factor.origin.is_same:
                self.show((factor,), CHANNELS if is_alone or is_at_end else UNKNOWN)
        has_known_roles = is_sure or UNKNOWN not in {one.origin.role for one in axes[at]}
        for index, axis in enumerate(axes):
            if index != at and has_known_roles:
                self.show(axis, PLACE)

    def _is_divided(self, factor: Factor) -> bool:
        """Whether roles of parts of the factor are known: they may be the sides of a map."""
        cut = (factor.stride, factor.size)
        return any(is_in(one, cut) for one in self._cuts.get(factor.origin, ()))

    def touch(self, axes: Axes, at: int | None = None) -> bool:
        """Register an operation along one axis: features that were divided into several axes may be a map.

        Args:
            axes: The axes of the value.
            at: The index of the axis. An operation along the last one is applied to channels, in networks with channels
                last too, and shows nothing.

        Returns:
            Whether the operation can be followed.
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
        """Register a unit that has one number for each entry of some axes."""
        together = tuple(factor for axis in axes for factor in axis)
        if len(axes) < 2 or all(factor.is_whole for factor in together):
            self.take(unit, FEATURES, together)
        else:
            for axis in axes:
                self.take(unit, OTHER, axis)

    def doubt_makers(self, axes: Axes) -> None:
        """Mark the outputs of the layers from which divided axes come as not followed: any order is possible."""
        for origin in {one.origin for axis in axes for one in axis if not one.is_whole}:
            for unit in (origin.unit, *_makers(origin)):
                if unit:
                    self.take(unit, OTHER, _NOT_FOLLOWED)

    def doubt_unknown(self, axes: Axes) -> None:
        """Mark the layers before an operation without a rule as not followed if their features were divided."""
        for origin in {one.origin for axis in axes for one in axis}:
            if origin.role == UNKNOWN and not (origin.is_aligned or origin.is_same):
                self.doubt_makers(origin.parents)

    def take(self, unit: str, side: str, axis: Axis) -> None:
        """Register a unit that has weights along an axis."""
        self._taken.append((unit, side, axis))

    def _doubt(self, known: Sequence[Tensor], units: Sequence[tuple[str, Tensor]]) -> None:
        """Register the layers of an operation without a rule: the axis of their features is not known."""
        for unit, _ in units:
            for one in known:
                for axis in self.of(one):
                    self.take(unit, OTHER, axis)

    def together(self, values: Sequence[Axes], shape: Sequence[int], number: int) -> Axes:
        """The axes of the result of an elementwise operation; the operands are aligned from the right."""
        made: list[Axis] = []
        for axis in range(-len(shape), 0):
            found = [value[axis] for value in values if len(value) >= -axis and value[axis]]
            distinct = list(dict.fromkeys(found))
            made.append(self._unified(distinct, (number, axis + len(shape))) if distinct else ())
        return tuple(made)

    def _unified(self, axes: Sequence[Axis], place: tuple[int, int]) -> Axis:
        """The axis of the result for aligned axes of the operands."""
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
    """The layers from whose channels an axis was computed."""
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
    """Whether the pieces of joined axes have the same sizes and roles."""
    forms = [[[(one.size, one.origin.role) for one in parent] for parent in origin.parents] for origin in origins]
    return all(form == forms[0] for form in forms)
