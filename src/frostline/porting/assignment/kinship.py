"""Layers of one block: which layers that are told already have names that begin like the name of one that is not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from frostline.porting.assignment.names import parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.assignment.topology import Candidates


def refine(candidates: Candidates, told: Mapping[str, str]) -> Candidates:
    """The candidates that stand in the same block, where both sides have the same blocks.

    Args:
        candidates: For each source unit the target units that it may become.
        told: Target unit by source unit, of what is told already.

    Returns:
        The candidates whose nearest kin are what the nearest kin of the source unit became; all of them, if the blocks
        of the two sides differ.
    """
    sources = {name: frozenset(told[kin] for kin in _nearest(name, list(told))) for name in candidates}
    others = {name for found in candidates.values() for name in found}
    targets = {name: frozenset(_nearest(name, list(told.values()))) for name in others}
    if Counter(sources.values()) != Counter(targets.values()):
        return candidates
    refined = {
        name: {other for other in found if targets[other] == sources[name]} for name, found in candidates.items()
    }
    return refined if all(refined.values()) else candidates


def _nearest(name: str, known: list[str]) -> list[str]:
    """The known names that share the longest beginning with `name`, one part at least."""
    own = parts(name)
    shared = {other: _num_shared(own, parts(other)) for other in known}
    longest = max(shared.values(), default=0)
    return [other for other, count in shared.items() if count == longest] if longest else []


def _num_shared(one: list[str], other: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
