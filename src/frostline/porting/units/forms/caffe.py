"""Units of Caffe: a BatchNorm has no scale of its own, so the Scale layer after it is joined to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.units.unit import SourceUnit


def with_scales(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units; each BatchNorm is joined with the Scale layer after it."""
    result: list[SourceUnit] = []
    for unit in units:
        before = result[-1] if result else None
        is_scale = unit.framework == "caffe" and "gamma" in unit.leaves and before is not None
        if before is not None and is_scale and _is_scaled_by(before, unit):
            result[-1] = replace(before, leaves={**before.leaves, **unit.leaves})
        else:
            result.append(unit)
    return result


def _is_scaled_by(norm: SourceUnit, scale: SourceUnit) -> bool:
    return (
        set(norm.leaves) == {"mean", "variance"}
        and norm.leaves["mean"].shape == scale.leaves["gamma"].shape
        and (scale.layer is None or norm.name in scale.layer.inputs)
    )
