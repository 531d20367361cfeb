"""Layers of Paddle under a weight norm or a spectral norm, as PyTorch has them: lengths with every axis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.parts import part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

_WHOLE = ("weight_v", "weight_orig")  # of both norms; a spectral norm has a vector named `weight_v` too


def renamed(unit: SourceUnit) -> SourceUnit:
    """The unit; matrices under a norm are (out, in), and `weight_g` has as many axes as the weight.

    The axis of `weight_g` follows from its size. If several axes have this size, it is the first one, as by default.
    """
    whole = next((leaf for leaf in reversed(_WHOLE) if leaf in unit.leaves), "")
    if unit.framework != "paddle" or not whole or not {"weight_g", "weight_u"} & set(unit.leaves):
        return unit
    leaves, shape = dict(unit.leaves), unit.leaves[whole].shape
    if "weight_g" in leaves and len(leaves["weight_g"].shape) == 1:
        size = leaves["weight_g"].shape[0]
        axis = shape.index(size) if size in shape else 0
        wide = tuple(size if at == axis else 1 for at in range(len(shape)))
        leaves["weight_g"] = part(leaves["weight_g"], "", wide, lambda vector: vector.reshape(wide))
    if len(shape) == 2:
        leaves |= _turned({leaf: tensor for leaf, tensor in leaves.items() if len(tensor.shape) == 2})
    return replace(unit, leaves=leaves)


def _turned(leaves: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    return {leaf: part(tensor, ".T", tensor.shape[::-1], lambda matrix: matrix.mT.contiguous())
            for leaf, tensor in leaves.items()}  # fmt: skip
