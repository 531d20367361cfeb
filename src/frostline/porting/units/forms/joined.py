"""Units of the file that are one layer of the module: those below one scope, under the names that belong together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.parts import under

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.units.unit import SourceUnit


def joined(
    units: Sequence[SourceUnit], parts: Sequence[str], names: Sequence[str] = (), others: Sequence[str] = ()
) -> list[SourceUnit]:
    """Units `x/a, x/b, ...` as one unit `x` with leaves `a/kernel, ...`, where all parts are there.

    Args:
        units: Of the file.
        parts: What the units are called below the one that they are joined to.
        names: What their leaves begin with then; none takes `parts`.
        others: What units beside them are called that are something else, if all of these are there.
    """
    by_parent: dict[str, dict[str, SourceUnit]] = {}
    for unit in units:
        for one in parts:
            if unit.name == one or unit.name.endswith(f"/{one}"):
                by_parent.setdefault(unit.name[: len(unit.name) - len(one)].removesuffix("/"), {})[one] = unit
    whole = {
        parent: found for parent, found in by_parent.items()
        if len(found) == len(parts) and not _has_double(units, parent, found, parts[-1], others)
    }  # fmt: skip
    owner = {unit.name: parent for parent, found in whole.items() for unit in found.values()}
    result: list[SourceUnit] = []
    made: set[str] = set()
    for unit in units:
        parent = owner.get(unit.name)
        if parent is None:
            result.append(unit)
        elif parent not in made:
            made.add(parent)
            leaves = {
                f"{name}/{leaf}": tensor
                for part_name, name in zip(parts, names or parts, strict=True)
                for leaf, tensor in whole[parent][part_name].leaves.items()
            }
            result.append(replace(unit, name=parent, leaves=leaves))
    return result


def _has_double(
    units: Sequence[SourceUnit], parent: str, found: Mapping[str, SourceUnit], last: str, others: Sequence[str]
) -> bool:
    """Whether another unit beside these has the shapes of the last one, and may be what that looks like."""
    shapes = _shapes(found[last])
    inside = {unit.name for unit in found.values()}
    known = {under(parent, other) for other in others}
    if known <= {unit.name for unit in units}:
        inside |= known
    beside = (unit for unit in units if unit.name.rpartition("/")[0] == parent and unit.name not in inside)
    return "/" not in last and any(_shapes(unit) == shapes for unit in beside)


def _shapes(unit: SourceUnit) -> dict[str, tuple[int, ...]]:
    return {leaf: tensor.shape for leaf, tensor in unit.leaves.items()}
