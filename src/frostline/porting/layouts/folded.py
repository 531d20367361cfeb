"""The layout of a convolution with a folded BatchNorm: the BatchNorm of the module becomes an identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.layouts.layout import SAME, Move
from frostline.porting.layouts.rules import fits

if TYPE_CHECKING:
    from frostline.porting.units.unit import SourceUnit, TargetUnit

NORM = "norm."  # prefix of the norm's tensors in the unit of the convolution


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a convolution with a folded BatchNorm to a convolution and an identity BatchNorm."""
    norm = target.norm
    assert norm is not None
    place = "bias" if "bias" in target.tensors else f"{NORM}bias"
    constants = {f"{NORM}weight": 1.0, f"{NORM}running_var": 1.0 - norm.eps}
    made = tuple(
        Move(own, ("weight",), (SAME,)) if own == "weight"
        else Move(own, ("bias",), (SAME,)) if own == place and "bias" in unit.leaves
        else Move(own, constant=constants.get(own, 0.0))
        for own in target.tensors
    )  # fmt: skip
    is_whole = place in target.tensors and set(unit.leaves) <= {"weight", "bias"} and "weight" in unit.leaves
    return made if is_whole and fits(unit, target, made) else None
