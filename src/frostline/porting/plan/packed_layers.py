"""Query, key and value in one layer of the file and in several of the module, or the other way round.

The plan splits or joins such units before it looks for their partners.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.choice import moves
from frostline.porting.layouts.layout import SAME, TRANSPOSED
from frostline.porting.units.forms import projections
from frostline.porting.units.unit import TargetUnit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

Shape = tuple[int, ...]


def as_in_module(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> tuple[SourceUnit, ...]:
    """The units, with query, key and value in one layer or in several, as in the module.

    Units are joined or split only if their names state that they are projections, and only if the module has more
    layers than the file of the shapes that result, and fewer of the shapes that are joined or split.

    Args:
        units: Units of the file.
        targets: Layers of the module.
    """
    have = Counter(_either_way(shape) for unit in units if (shape := _matrix(unit)))
    wants = Counter(_either_way(tuple(one.shape)) for target in targets
                    for one in target.tensors.values() if one.ndim == 2)  # fmt: skip
    lacks = {shape for shape in wants if wants[shape] > have[shape]}
    spare = {shape for shape in have if have[shape] > wants[shape]}
    linear = [tuple(target.tensors["weight"].shape) for target in targets
              if isinstance(target.module, nn.Linear) and "weight" in target.tensors]  # fmt: skip
    made: list[SourceUnit] = []
    before, used = {unit.name for unit in units}, set[str]()
    for unit in units:
        biases, holder = projections.find_biases(unit, units)
        found = _apart(unit, linear, biases, lacks, spare)
        if {one.name for one in found} & before and len(found) > 1:
            found = [replace(one, name=f"{unit.name}/{one.name.rpartition('/')[2]}") for one in found]
        made += found
        used |= {holder} if len(found) > 1 else set()
    left = [unit for unit in made if not unit.name or unit.name not in used]
    names = {unit.name for unit in left}
    groups = {name: parts for name, parts in projections.find_groups(left).items()
              if name not in names and _is_joined(parts, lacks, spare)}  # fmt: skip
    return tuple(projections.joined(left, groups))


# Parts become units before layers are matched, so that names tell them apart as any other layers. Considered: one
# move with several targets; every later step would have to know it.
def _apart(
    unit: SourceUnit, linear: Sequence[Shape], biases: Mapping[str, SourceTensor], lacks: set[Shape], spare: set[Shape]
) -> list[SourceUnit]:  # fmt: skip
    """The unit split into its projections; the unit itself if it is not to be split."""
    roles, shape = projections.roles_of(unit.name), _matrix(unit)
    if not roles or len(shape) != 2 or 0 in shape or _either_way(shape) not in spare or unit.parts:
        return [unit]
    for rows, columns in dict.fromkeys((shape, shape[::-1])):
        axis = _axis(unit, rows, columns)
        sizes = next(_sizes(len(roles), rows, columns, linear), None)
        if axis is not None and sizes is not None and all(_either_way((size, columns)) in lacks for size in sizes):
            return projections.divide(unit, roles, sizes, axis, biases)
    return [unit]


def _axis(unit: SourceUnit, rows: int, columns: int) -> int | None:
    """The axis of outputs in a matrix of the file; None if it is not the matrix of a linear layer of this size."""
    linear = nn.Linear(columns, rows, bias="bias" in unit.leaves, device="meta")
    found = moves(unit, TargetUnit("", linear, dict(linear.named_parameters()), ""))
    layouts = [move.layouts for move in found or () if move.target == "weight"]
    return 0 if layouts == [(SAME,)] else 1 if layouts == [(TRANSPOSED,)] else None


def _sizes(count: int, rows: int, columns: int, linear: Sequence[Shape]) -> Iterator[Shape]:
    """The possible numbers of rows of the projections: all equal, or fewer for key and value.

    Only sizes of linear layers of the module are possible.
    """
    own = {shape[0] for shape in linear if shape[1:] == (columns,)}
    if rows % count == 0 and rows // count in own:
        yield (rows // count,) * count
    yield from (
        (query, other, other) for query, other in itertools.product(own, own)
        if count == 3 and query > other and query + 2 * other == rows
    )  # fmt: skip


def _is_joined(parts: Mapping[str, SourceUnit], lacks: set[Shape], spare: set[Shape]) -> bool:
    """Whether these projections are one layer in the module."""
    shapes = [_matrix(unit) for unit in parts.values()]
    if not all(len(shape) == 2 and _either_way(shape) in spare for shape in shapes):
        return False
    return any(
        len({shape[1 - axis] for shape in shapes}) == 1
        and _either_way((sum(shape[axis] for shape in shapes), shapes[0][1 - axis])) in lacks
        for axis in (0, 1)
    )


def _matrix(unit: SourceUnit) -> Shape:
    """The shape of the matrix of a linear layer, with all heads on one axis; empty if there is none."""
    shapes = [tensor.shape for tensor in unit.leaves.values() if len(tensor.shape) > 1]
    if len(shapes) != 1:
        return ()
    (shape,) = shapes
    return shape if len(shape) == 2 else (shape[0], math.prod(shape[1:]))


def _either_way(shape: Shape) -> Shape:
    """The same value for a shape and its transpose."""
    return tuple(sorted(shape))
