"""Layouts of PaddlePaddle: those of PyTorch, except linear layers and the names of statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import torch
from frostline.porting.layouts.layout import SAME, TRANSPOSED
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_NORM = {
    "weight": ("weight", SAME), "bias": ("bias", SAME), "_mean": ("running_mean", SAME),
    "_variance": ("running_var", SAME), "scale": ("weight", SAME),
}  # fmt: skip


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a Paddle layer to a PyTorch layer; None if the layers do not fit.

    References:
        PaddlePaddle 3, `nn/layer/`; measured against PyTorch 2.13 (docs/formats.md).
    """
    if isinstance(target.module, nn.Linear):
        return assemble(unit, target, {"weight": ("weight", TRANSPOSED), "bias": ("bias", SAME)})
    if isinstance(target.module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)):
        return assemble(unit, target, _NORM, {"weight": 1.0, "bias": 0.0, "num_batches_tracked": 0.0})
    if isinstance(target.module, nn.PReLU):
        return assemble(unit, target, {"_weight": ("weight", SAME), "weight": ("weight", SAME)})
    return torch.moves(unit, target)
