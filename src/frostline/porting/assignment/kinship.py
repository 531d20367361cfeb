"""Layers of one block: which layers that are told already have names that begin like the name of one that is not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from frostline.porting.assignment.names import parts
from frostline.porting.assignment.topology import components

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.assignment.topology import Candidates


def refine(candidates: Candidates, told: Mapping[str, str]) -> Candidates:
    """The candidates that stand in the same block, where both sides have the same blocks.

    Args:
        candidates: For each source unit the target units that it may become.
        told: Target unit by source unit, of what is told already.

    Returns:
        The candidates whose nearest kin are what the nearest kin of the source unit became, where as many layers of
        both sides have these kin. Layers that have none on one side, such as a norm before all blocks, are left for
        each other; where blocks of the two sides differ otherwise, the candidates stay as they are.
    """
    kin_s = {name: frozenset(told[kin] for kin in _nearest(name, list(told))) for name in candidates}
    kin_t = {name: frozenset(_nearest(name, list(told.values()))) for found in candidates.values() for name in found}
    refined = dict(candidates)
    for sources, targets in components(candidates):
        blocks_s, blocks_t = Counter(kin_s[name] for name in sources), Counter(kin_t[name] for name in targets)
        same = {kin for kin, count in blocks_s.items() if blocks_t[kin] == count}
        if set(blocks_s) - same - {frozenset()} and set(blocks_t) - same - {frozenset()}:
            continue
        part = {
            name: {other for other in candidates[name]
                   if (kin_t[other] == kin_s[name] if kin_s[name] in same else kin_t[other] not in same)}
            for name in sources
        }  # fmt: skip
        if all(part.values()):
            refined |= part
    return refined


def _nearest(name: str, known: list[str]) -> list[str]:
    """The known names that share the longest beginning with `name`, one part at least."""
    own = parts(name)
    shared = {other: _num_shared(own, parts(other)) for other in known}
    longest = max(shared.values(), default=0)
    return [other for other, count in shared.items() if count == longest] if longest else []


def _num_shared(one: list[str], other: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
