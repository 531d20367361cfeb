"""Layouts of MatConvNet: filters (height, width, in, out); a BatchNorm stores sqrt(variance + epsilon)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts.layout import SAME, Layout, permuted
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

# The error of squaring, subtracting epsilon, rounding to float32 and taking the root again is at most 6e-8 of sigma.
_SLACK = 1e-6
_FILTERS = permuted("HWIO to OIHW", 3, 2, 0, 1)


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a MatConvNet layer to a PyTorch layer; None if the layers do not fit.

    References:
        MatConvNet 1.0-beta25, `vl_nnconv.m` and `vl_nnbnorm.m`: in test mode the input is divided by the
        stored sigma, so the equivalent variance depends on the epsilon of the module.
    """
    if isinstance(target.module, nn.Conv2d):
        return assemble(unit, target, {"filters": ("weight", _FILTERS), "biases": ("bias", SAME)})
    if isinstance(target.module, nn.Linear) and "filters" in unit.leaves:
        height, width, inputs, outputs = unit.leaves["filters"].shape
        flat = Layout(
            "HWIO to (out, channels x height x width)",
            lambda tensor: tensor.permute(3, 2, 0, 1).reshape(outputs, -1),
            lambda tensor: tensor.reshape(outputs, inputs, height, width).permute(2, 3, 1, 0),
        )
        return assemble(unit, target, {"filters": ("weight", flat), "biases": ("bias", SAME)})
    if isinstance(target.module, nn.BatchNorm2d):
        rows = {"multipliers": ("weight", SAME), "biases": ("bias", SAME), "mean": ("running_mean", SAME),
                "sigma": ("running_var", _variance(target.module.eps))}  # fmt: skip
        return assemble(unit, target, rows)
    return None


# The file stores a root, so that the way back is exact to 1e-6 only. A sigma below the module's epsilon has no
# variance: it is refused by a text of its own.
def _variance(epsilon: float) -> Layout:
    """The layout from sigma to the variance for which a BatchNorm with this epsilon divides by sigma."""
    return Layout(
        f"sigma to variance (epsilon {epsilon:g})",
        lambda tensor: (tensor.double() ** 2 - epsilon).to(tensor.dtype),
        lambda tensor: (tensor.double() + epsilon).sqrt().to(tensor.dtype),
        slack=_SLACK,
    )
