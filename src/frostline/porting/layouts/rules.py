"""From a table of leaves to the moves of one pair of units: each tensor once, with the shape that it must have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from frostline.porting.layouts.layout import SAME, Move, channels_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.layouts.layout import Layout
    from frostline.porting.units.unit import SourceUnit, TargetUnit

Row = tuple[str, "Layout"]  # the tensor of the module, and how the leaf becomes it

# What tensors hold where the source has none: a missing bias adds nothing, a missing scale multiplies by one.
DEFAULTS = {"bias": 0.0, "weight": 1.0, "num_batches_tracked": 0.0}


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
        rows: By leaf; leaves without a row make the pair impossible.
        defaults: Tensors of the layer that may be missing in the source, and what they hold then.

    Returns:
        One move for each tensor of the layer; None if the pair cannot belong together.
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
    """The rows of a norm over whole maps, whose channels are last in the source."""
    return {
        leaf: (own, channels_first(unit.leaves[leaf].shape, tuple(target.tensors[own].shape)))
        if leaf in unit.leaves and own in target.tensors else (own, layout) for leaf, (own, layout) in rows.items()
    }  # fmt: skip


def fits(unit: SourceUnit, target: TargetUnit, moves: tuple[Move, ...]) -> bool:
    """Whether every move gives a tensor of the right shape; nothing is read."""
    return all(_shape(unit, move, target) == tuple(target.tensors[move.target].shape) for move in moves)


def _shape(unit: SourceUnit, move: Move, target: TargetUnit) -> tuple[int, ...] | None:
    if len(move.layouts) == 1 and move.layouts[0] is SAME and move.combine is None:
        return unit.leaves[move.sources[0]].shape if move.sources else tuple(target.tensors[move.target].shape)
    parts = tuple(torch.empty(unit.leaves[leaf].shape, device="meta") for leaf in move.sources)
    like = torch.empty(target.tensors[move.target].shape, device="meta")
    try:
        return tuple(move.forward(parts, like).shape)
    except (RuntimeError, IndexError, ValueError):  # another number of axes, or sizes that do not divide
        return None
