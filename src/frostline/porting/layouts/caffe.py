"""Layouts of Caffe: those of PyTorch. A BatchNorm includes the Scale layer after it (see `units/forms/caffe.py`)."""

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
    "gamma": ("weight", SAME), "beta": ("bias", SAME), "mean": ("running_mean", SAME),
    "variance": ("running_var", SAME),
}  # fmt: skip


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a Caffe layer to a PyTorch layer; None if the layers do not fit.

    References:
        Caffe 1.0, `layers/batch_norm_layer.cpp`, `layers/inner_product_layer.cpp`; compared with OpenCV's reader.
    """
    if isinstance(target.module, nn.modules.batchnorm._NormBase):
        return assemble(unit, target, _NORM, {"weight": 1.0, "bias": 0.0, "num_batches_tracked": 0.0})
    if isinstance(target.module, nn.PReLU):
        return assemble(unit, target, {"slope": ("weight", SAME)})
    if isinstance(target.module, (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)):
        return torch.moves(unit, target) or assemble(unit, target, {"weight": ("weight", SAME)})
    return None
