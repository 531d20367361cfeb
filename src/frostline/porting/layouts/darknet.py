"""Layouts of Darknet: arrays lie as in PyTorch; a convolution with BatchNorm is two layers (see `grouping`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import SAME
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units import SourceUnit, TargetUnit

_NORM = {
    "scales": ("weight", SAME), "biases": ("bias", SAME), "rolling_mean": ("running_mean", SAME),
    "rolling_variance": ("running_var", SAME),
}  # fmt: skip


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """How a layer of Darknet becomes a layer of PyTorch; None if it cannot.

    References:
        Darknet, `src/parser.c`, `load_convolutional_weights`.
    """
    if isinstance(target.module, nn.modules.batchnorm._NormBase):
        return assemble(unit, target, _NORM, {"num_batches_tracked": 0.0})
    if isinstance(target.module, (nn.modules.conv._ConvNd, nn.Linear)):
        return assemble(unit, target, {"weights": ("weight", SAME), "biases": ("bias", SAME)})
    return None
