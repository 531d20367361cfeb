"""Layouts of Darknet: those of PyTorch, with other names of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import SAME
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_CONV = {"weights": ("weight", SAME), "biases": ("bias", SAME)}
_NORM = {
    "scales": ("weight", SAME), "biases": ("bias", SAME), "rolling_mean": ("running_mean", SAME),
    "rolling_variance": ("running_var", SAME),
}  # fmt: skip


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a Darknet layer to a PyTorch layer; None if the layers do not fit.

    References:
        Darknet, `src/parser.c` (`load_convolutional_weights`): weights are (filters, channels, height, width).
    """
    if isinstance(target.module, nn.Conv2d):
        return assemble(unit, target, _CONV)
    if isinstance(target.module, nn.BatchNorm2d) and "rolling_variance" in unit.leaves:
        return assemble(unit, target, _NORM)
    return None
