"""Evidence from blocks: layers whose names have the same prefix as layers that are already assigned."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from frostline.porting.assignment.names import parts
from frostline.porting.assignment.topology import components

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from frostline.porting.assignment.topology import Candidates


def refine(candidates: Candidates, assigned: Mapping[str, str]) -> Candidates:
    """The candidates in the same block, if both sides have the same blocks.

    Args:
        candidates: For each source unit the target units that it may be assigned to.
        assigned: Assigned target unit by source unit.

    Returns:
        The candidates whose block corresponds to the block of the source unit, if both blocks have the same number of
        layers. Layers outside of all blocks, such as a norm before them, remain candidates for each other. If the
        blocks of the two sides differ in another way, the candidates are unchanged.
    """
    sides = {
        name: parts(name) for name in (*assigned, *assigned.values(), *candidates, *set().union(*candidates.values()))
    }
    refined = dict(candidates)
    for sources, targets in components(candidates):
        for depth_s, depth_t in _depths(sources, targets, sides):
            block_s = {
                name: frozenset(assigned[block] for block in _in_same_block(name, assigned, sides, depth_s))
                for name in sources
            }
            block_t = {name: frozenset(_in_same_block(name, assigned.values(), sides, depth_t)) for name in targets}
            part = _within({name: candidates[name] for name in sources}, block_s, block_t)
            if part is not None and any(part[name] != candidates[name] for name in sources):
                refined |= part
                break
    return refined


def _depths(
    sources: list[str], targets: list[str], sides: Mapping[str, list[str]]
) -> Iterator[tuple[int | None, int | None]]:
    """The lengths of the name prefix that defines a block, on both sides, the longest first."""
    yield None, None
    deepest_s, deepest_t = (max((len(sides[name]) for name in names), default=0) for names in (sources, targets))
    for depth_s in range(deepest_s - 1, 0, -1):
        for depth_t in range(deepest_t - 1, 0, -1):
            yield depth_s, depth_t


def _within(
    candidates: Candidates, block_s: Mapping[str, frozenset[str]], block_t: Mapping[str, frozenset[str]]
) -> Candidates | None:
    """The candidates in the same block; None if the blocks of the two sides differ."""
    blocks_s, blocks_t = Counter(block_s.values()), Counter(block_t.values())
    same = {block for block, count in blocks_s.items() if blocks_t[block] == count}
    if set(blocks_s) - same - {frozenset()} and set(blocks_t) - same - {frozenset()}:
        return None
    part = {
        name: {other for other in found
               if (block_t[other] == block_s[name] if block_s[name] in same else block_t[other] not in same)}
        for name, found in candidates.items()
    }  # fmt: skip
    return part if all(part.values()) else None


def _in_same_block(name: str, known: Iterable[str], sides: Mapping[str, list[str]], depth: int | None) -> list[str]:
    """The known names with the same first `depth` parts; with None those that share most parts, at least one."""
    own = sides[name]
    if depth is not None:
        return [other for other in known if own[:depth] == sides[other][:depth] and len(own) >= depth]
    shared = {other: _num_shared(own, sides[other]) for other in known}
    longest = max(shared.values(), default=0)
    return [other for other, count in shared.items() if count == longest] if longest else []


def _num_shared(one: list[str], other: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
