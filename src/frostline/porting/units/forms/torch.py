"""Layers of PyTorch: a recurrent module holds several, and an attention the packed projection of its inputs."""

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
    """The unit, what a new weight norm or spectral norm computes from under the names of the old one."""
    found = {leaf: _PARAMETRIZED.fullmatch(leaf) for leaf in unit.leaves}
    names = {leaf: f"{place[1]}_{_ENDS[place[2]]}" for leaf, place in found.items() if place is not None}
    return (
        replace(unit, leaves={names.get(leaf, leaf): tensor for leaf, tensor in unit.leaves.items()}) if names else unit
    )


def apart(unit: SourceUnit) -> list[SourceUnit]:
    """The layers and directions of a recurrent module, and the linear layer of a packed projection."""
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
