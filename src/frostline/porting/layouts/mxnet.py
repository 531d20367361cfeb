"""Layouts of MXNet: those of PyTorch, with other names for scales and statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import torch
from frostline.porting.layouts.layout import SAME
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_NORM = {
    "gamma": ("weight", SAME), "beta": ("bias", SAME), "running_mean": ("running_mean", SAME),
    "running_var": ("running_var", SAME), "moving_mean": ("running_mean", SAME), "moving_var": ("running_var", SAME),
}  # fmt: skip


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from an MXNet layer to a PyTorch layer; None if the layers do not fit.

    References:
        MXNet 1.9, `gluon/nn/basic_layers.py`.
    """
    if isinstance(target.module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)):
        return assemble(unit, target, _NORM, {"num_batches_tracked": 0.0})
    if isinstance(target.module, nn.PReLU):
        return assemble(unit, target, {"alpha": ("weight", SAME), "gamma": ("weight", SAME)})
    return torch.moves(unit, target)
