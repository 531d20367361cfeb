"""Hints of the caller: which layer of the file goes into which layer of the module, by name or by pattern."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from frostline.core.errors import DataError, LayerNotFound, PortError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_ANY = "*"


def checked_hints(
    hints: Any, sources: Mapping[str, SourceUnit], targets: Mapping[str, TargetUnit],
    table: Mapping[str, Mapping[str, tuple[Move, ...]]],
) -> dict[str, str]:  # fmt: skip
    """The hints by name, after a check that their layers exist, fit, and occur once.

    Args:
        hints: A mapping from layers of the file to layers of the module. Each `*` in a name stands for the same text in
            both: `{"block_*/conv": "blocks.*.conv"}`.
        sources: Units of the file.
        targets: Units of the module.
        table: The moves of each pair that fits.

    Raises:
        DataError: If the hints are no mapping, or a pattern has another number of `*` than its counterpart.
        LayerNotFound: If a name is unknown, or a pattern matches no layer.
        PortError: If two layers of a hint do not fit.
    """
    if not isinstance(hints, dict):
        raise _no_mapping(hints)
    found: dict[str, str] = {}
    for name, other in cast("dict[Any, Any]", hints).items():
        found |= _expanded(str(name), str(other), sources)
    if len(set(found.values())) < len(found):
        raise _no_mapping(hints)
    for name, other in found.items():
        for given, known, side in ((name, sources, "file"), (other, targets, "module")):
            if given not in known:
                raise LayerNotFound(
                    what=f"The {side} has no layer with weights named {given!r}.", where="port(hints=...)",
                    received=repr(given), do=f"use one of {nearest(given, known)}.",
                )  # fmt: skip
        if other not in table[name]:
            raise PortError(
                what="A hint pairs layers that do not fit.", where="port(hints=...)",
                received=f"{sources[name]}, and {targets[other]}",
                do=f"pair {name!r} with one of {', '.join(map(repr, table[name])) or 'no layer: leave the hint out'}.",
            )  # fmt: skip
    return found


def _expanded(name: str, other: str, known: Iterable[str]) -> dict[str, str]:
    """The pairs that a pattern stands for; a name stands for itself."""
    if name.count(_ANY) != other.count(_ANY):
        raise DataError(
            what="Both sides of a hint must have the same number of `*`.", where="port(hints=...)",
            received=f"{name!r}: {other!r}", do='pass hints={"block_*/conv": "blocks.*.conv"}, for example.',
        )  # fmt: skip
    if _ANY not in name:
        return {name: other}
    pattern, parts = re.compile("(.+)".join(map(re.escape, name.split(_ANY)))), other.split(_ANY)
    matches = {one: match.groups() for one in known if (match := pattern.fullmatch(one))}
    if not matches:
        raise LayerNotFound(
            what=f"No layer of the file matches {name!r}.", where="port(hints=...)", received=repr(name),
            do=f"use a pattern for one of {nearest(name, known)}.",
        )  # fmt: skip
    return {
        one: "".join(part + text for part, text in zip(parts, (*texts, ""), strict=True))
        for one, texts in matches.items()
    }


def _no_mapping(hints: Any) -> DataError:
    return DataError(
        what="Hints are a mapping from layers of the file to layers of the module; each layer occurs once.",
        where="port(hints=...)", received=repr(hints)[:80], do='pass hints={"dense_1": "head"}, for example.',
    )  # fmt: skip
