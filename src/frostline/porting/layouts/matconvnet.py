"""Layouts of MatConvNet: filters (height, width, in, out); moments are taken apart in `grouping`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import SAME, permuted, reshaped
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units import SourceUnit, TargetUnit

_FILTERS = permuted("(h, w, in, out) to (out, in, h, w)", 3, 2, 0, 1)
_NORM = {
    "multipliers": ("weight", SAME), "biases": ("bias", SAME), "mean": ("running_mean", SAME),
    "variance": ("running_var", SAME),
}  # fmt: skip


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """How a layer of MatConvNet becomes a layer of PyTorch; None if it cannot.

    References:
        MatConvNet 1.0-beta25, `vl_nnconv`, `vl_nnbnorm`.
    """
    if isinstance(target.module, nn.modules.batchnorm._NormBase):
        return assemble(unit, target, _NORM, {"num_batches_tracked": 0.0})
    filters = unit.leaves.get("filters")
    if filters is None or len(filters.shape) != 4:
        return None
    if isinstance(target.module, nn.Conv2d):
        return assemble(unit, target, {"filters": ("weight", _FILTERS), "biases": ("bias", SAME)})
    if isinstance(target.module, nn.Linear):  # a convolution over the whole map, flattened (channels, height, width)
        flat = (filters.shape[3], filters.shape[0] * filters.shape[1] * filters.shape[2])
        apart = (filters.shape[3], filters.shape[2], *filters.shape[:2])
        joined = _FILTERS.then(reshaped("axes joined", apart, flat))
        return assemble(unit, target, {"filters": ("weight", joined), "biases": ("bias", SAME)})
    return None
