"""Construction of the moves of one pair of units from a table of leaves; every tensor occurs once, shapes must fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from frostline.porting.layouts.layout import SAME, Move, channels_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.layouts.layout import Layout
    from frostline.porting.units.unit import SourceUnit, TargetUnit

Row = tuple[str, "Layout"]  # the tensor of the module, and the layout of the leaf


def assemble(
    unit: SourceUnit,
    target: TargetUnit,
    rows: Mapping[str, Row],
    defaults: Mapping[str, float] = {"bias": 0.0, "num_batches_tracked": 0.0},
) -> tuple[Move, ...] | None:
    """The moves from a source unit to a layer.

    Args:
        unit: The source unit.
        target: The layer.
        rows: The rules by leaf; a unit with another leaf does not fit.
        defaults: The values of tensors of the layer that may be missing in the source.

    Returns:
        One move for each tensor of the layer; None if unit and layer do not fit.
    """
    if not set(unit.leaves) <= set(rows):
        return None
    made: dict[str, Move] = {}
    for leaf in unit.leaves:
        own, layout = rows[leaf]
        if own not in target.tensors or own in made:
            return None
        made[own] = Move(own, (leaf,), (layout,))
    for own in target.tensors:
        if own not in made:
            if own not in defaults:
                return None
            made[own] = Move(own, constant=defaults[own])
    moves = tuple(made[own] for own in target.tensors)
    return moves if fits(unit, target, moves) else None


def over_maps(unit: SourceUnit, target: TargetUnit, rows: Mapping[str, Row]) -> dict[str, Row]:
    """The rules of a norm over spatial axes, with channels last in the source."""
    return {
        leaf: (own, channels_first(unit.leaves[leaf].shape, tuple(target.tensors[own].shape)))
        if leaf in unit.leaves and own in target.tensors else (own, layout) for leaf, (own, layout) in rows.items()
    }  # fmt: skip


def fits(unit: SourceUnit, target: TargetUnit, moves: tuple[Move, ...]) -> bool:
    """Whether every move returns a tensor of the right shape; computed without reading the file."""
    return all(_shape(unit, move, target) == tuple(target.tensors[move.target].shape) for move in moves)


def _shape(unit: SourceUnit, move: Move, target: TargetUnit) -> tuple[int, ...] | None:
    if len(move.layouts) == 1 and move.layouts[0] is SAME and move.combine is None:
        return unit.leaves[move.sources[0]].shape if move.sources else tuple(target.tensors[move.target].shape)
    parts = tuple(torch.empty(unit.leaves[leaf].shape, device="meta") for leaf in move.sources)
    like = torch.empty(target.tensors[move.target].shape, device="meta")
    try:
        return tuple(move.forward(parts, like).shape)
    except (RuntimeError, IndexError, ValueError):  # wrong number of axes, or sizes that are not divisible
        return None
