"""Units of PyTorch files: a recurrent module has several layers, and an attention a packed input projection."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.parts import under

if TYPE_CHECKING:
    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

_RECURRENT = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))_(l\d+(?:_reverse)?)(_[gv])?")
_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.(original[01]?|0\._[uv])")
_ENDS = {"original0": "g", "original1": "v", "original": "orig", "0._u": "u", "0._v": "v"}
_PACKED = "in_proj_"


def renamed(unit: SourceUnit) -> SourceUnit:
    """The unit; the tensors of a parametrized norm get their names in the hook implementation."""
    found = {leaf: _PARAMETRIZED.fullmatch(leaf) for leaf in unit.leaves}
    names = {leaf: f"{place[1]}_{_ENDS[place[2]]}" for leaf, place in found.items() if place is not None}
    return (
        replace(unit, leaves={names.get(leaf, leaf): tensor for leaf, tensor in unit.leaves.items()}) if names else unit
    )


def divide(unit: SourceUnit) -> list[SourceUnit]:
    """The layers and directions of a recurrent module, and the packed projection of an attention, as separate units."""
    if unit.leaves and all(leaf in (f"{_PACKED}weight", f"{_PACKED}bias") for leaf in unit.leaves):
        packed = {leaf.removeprefix(_PACKED): tensor for leaf, tensor in unit.leaves.items()}
        return [replace(unit, name=under(unit.name, "in_proj"), leaves=packed)]
    found = {leaf: _RECURRENT.fullmatch(leaf) for leaf in unit.leaves}
    if not found or not all(found.values()):
        return [unit]
    by_layer: dict[str, dict[str, SourceTensor]] = {}
    for leaf, tensor in unit.leaves.items():
        place = found[leaf]
        assert place is not None
        by_layer.setdefault(f"{unit.name}/{place[2]}", {})[f"{place[1]}{place[3] or ''}"] = tensor
    return [replace(unit, name=name, leaves=by_layer[name]) for name in sorted(by_layer)]
