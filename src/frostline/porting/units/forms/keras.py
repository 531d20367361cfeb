"""Units of Keras: a separable convolution is two layers in PyTorch, and the bias of a GRU two tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.parts import row

if TYPE_CHECKING:
    from frostline.porting.units.unit import SourceUnit


def divide(unit: SourceUnit) -> list[SourceUnit]:
    """The unit, divided into the layers that PyTorch has for it."""
    leaves = dict(unit.leaves)
    if "pointwise_kernel" in leaves and "depthwise_kernel" in leaves:
        first = {"depthwise_kernel": leaves.pop("depthwise_kernel")}
        rest = {"kernel": leaves.pop("pointwise_kernel"), **leaves}
        return [replace(unit, name=f"{unit.name}/depthwise", leaves=first),
                replace(unit, name=f"{unit.name}/pointwise", leaves=rest)]  # fmt: skip
    bias = leaves.get("bias")
    if bias is not None and "recurrent_kernel" in leaves and len(bias.shape) == 2:
        del leaves["bias"]
        return [replace(unit, leaves=leaves | {f"bias[{at}]": row(bias, at) for at in range(bias.shape[0])})]
    return [unit]


def renamed(unit: SourceUnit) -> SourceUnit:
    """The unit with the leaves of Keras 2: in its legacy format, Keras 3 names a depthwise kernel `kernel`."""
    if not unit.kind.startswith("DepthwiseConv") or "kernel" not in unit.leaves:
        return unit
    leaves = dict(unit.leaves)
    leaves["depthwise_kernel"] = leaves.pop("kernel")
    return replace(unit, leaves=leaves)
