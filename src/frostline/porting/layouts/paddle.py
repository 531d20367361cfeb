"""Layouts of PaddlePaddle: those of PyTorch, except linear layers, flat tensors and the names of statistics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import torch
from frostline.porting.layouts.layout import SAME, TRANSPOSED, reshaped
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Layout, Move
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
    module = target.module
    if isinstance(module, nn.Linear) and not {"weight_g", "weight_u"} & set(unit.leaves):
        return assemble(unit, target, {"weight": ("weight", TRANSPOSED), "bias": ("bias", SAME)})
    if isinstance(module, nn.Bilinear):
        return assemble(
            unit, target, {"weight": ("weight", SAME), "bias": ("bias", _flat(unit, target, "bias", "bias"))}
        )
    if isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)):
        rows = {leaf: (own, _flat(unit, target, leaf, own)) for leaf, (own, _) in _NORM.items()}
        return assemble(unit, target, rows, {"weight": 1.0, "bias": 0.0, "num_batches_tracked": 0.0})
    if isinstance(module, nn.PReLU):
        return assemble(unit, target, {"_weight": ("weight", SAME), "weight": ("weight", SAME)})
    return torch.moves(unit, target)


def assumed_of(unit: SourceUnit) -> str:
    """The setting of a weight norm that is not in the file and was taken as the default; empty if there is none."""
    g, v = (unit.leaves.get(f"weight_{end}") for end in "gv")
    if unit.framework != "paddle" or g is None or v is None:
        return ""
    return "axis of the weight norm" if v.shape.count(max(g.shape, default=0)) > 1 else ""


def _flat(unit: SourceUnit, target: TargetUnit, leaf: str, own: str) -> Layout:
    """A tensor that is stored as a vector, or as one row."""
    if leaf not in unit.leaves or own not in target.tensors:
        return SAME
    theirs, ours = unit.leaves[leaf].shape, tuple(target.tensors[own].shape)
    is_flat = theirs != ours and math.prod(theirs) == math.prod(ours) and max(theirs, default=0) == math.prod(ours)
    return reshaped("a vector with the axes of the module", theirs, ours) if is_flat else SAME
