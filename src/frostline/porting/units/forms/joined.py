"""Joining of units of the file that are one layer of the module: those with given names in one scope."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.units.unit import SourceUnit


def joined(units: Sequence[SourceUnit], parts: Sequence[str]) -> list[SourceUnit]:
    """Join units `x/a, x/b, ...` to one unit `x` with leaves `a/kernel, ...`, if all parts exist.

    Args:
        units: The units of the file.
        parts: The names of the parts in their scope.
    """
    by_parent: dict[str, dict[str, SourceUnit]] = {}
    for unit in units:
        for one in parts:
            if unit.name == one or unit.name.endswith(f"/{one}"):
                by_parent.setdefault(unit.name[: len(unit.name) - len(one)].removesuffix("/"), {})[one] = unit
    whole = {parent: found for parent, found in by_parent.items() if len(found) == len(parts)}
    owner = {unit.name: parent for parent, found in whole.items() for unit in found.values()}
    result: list[SourceUnit] = []
    made: set[str] = set()
    for unit in units:
        parent = owner.get(unit.name)
        if parent is None:
            result.append(unit)
        elif parent not in made:
            made.add(parent)
            result.append(as_one(parent, {part: whole[parent][part] for part in parts}))
    return result


def as_one(name: str, parts: Mapping[str, SourceUnit]) -> SourceUnit:
    """Join units.

    Args:
        name: The name of the joined unit.
        parts: The units by role, which becomes the prefix of their leaves.
    """
    leaves = {f"{part}/{leaf}": tensor for part, unit in parts.items() for leaf, tensor in unit.leaves.items()}
    return replace(next(iter(parts.values())), name=name, leaves=leaves, parts=parts, packed=None)
