"""Names that frameworks give layers by their class (`GroupNorm_0`), as evidence of the type of a norm.

All norms without statistics store the same two tensors, so that types and shapes do not distinguish them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.assignment.topology import components

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.assignment.topology import Candidates
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_TYPES: dict[str, tuple[type[nn.Module], ...]] = {
    "layer": (nn.LayerNorm,), "group": (nn.GroupNorm,), "rms": (nn.RMSNorm,),
    "instance": (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
}  # fmt: skip
_NAMES = {  # how each framework writes the class of a layer that was given no name
    "flax": re.compile(r"(Layer|Group|RMS|Instance)Norm_\d+"),
    "haiku": re.compile(r"(layer|group|rms|instance)_norm(?:_\d+)?"),
    "keras": re.compile(r"(layer|group|rms)_normalization(?:_\d+)?"),
}


def of_named_types(
    candidates: Candidates, sources: Mapping[str, SourceUnit], targets: Mapping[str, TargetUnit]
) -> Candidates:
    """The candidates whose type is that in the name of the unit, where a whole group can be assigned in this way.

    Args:
        candidates: For each source unit the target units with the same type and shape.
        sources: The source units.
        targets: The target units.
    """
    found = {name: set(others) for name, others in candidates.items()}
    for names, others in components(candidates):
        named = {name: kind for name in names if (kind := _type(sources[name]))}
        of_type = {name: {one for one in others if isinstance(targets[one].module, kind)}
                   for name, kind in named.items()}  # fmt: skip
        counts = {kind: list(named.values()).count(kind) for kind in named.values()}
        is_whole = len(named) == len(names) == len(others) and all(
            len(of_type[name]) == counts[kind] and of_type[name] <= candidates[name] for name, kind in named.items()
        )
        if is_whole:
            found |= of_type
    return found


def _type(unit: SourceUnit) -> tuple[type[nn.Module], ...] | None:
    pattern = _NAMES.get(unit.framework)
    found = pattern.fullmatch(unit.name.rpartition("/")[2]) if pattern is not None else None
    return _TYPES[found[1].lower()] if found else None
