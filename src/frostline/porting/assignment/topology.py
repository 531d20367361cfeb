"""The place of a layer in the flow of values, by colour refinement of both networks at once.

References:
    Weisfeiler and Leman, "A reduction of a graph to a canonical form", 1968.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.graphs.target_graph import Edges

Candidates = dict[str, set[str]]  # by source unit: the target units that it may be assigned to


def refine(candidates: Candidates, source: Edges, target: Edges) -> Candidates:
    """The candidates at the same place in both networks.

    The first colour of a layer is its group of candidates. In each round the colours of the layers before and after are
    added to it. The result is that of the last round in which both networks have the same number of layers of each
    colour: if the module has another structure, the rounds before the difference still count.
    """
    before, after = _inverse(source), _inverse(target)
    colours_s, colours_t = _first(candidates)
    kept = candidates
    for _ in range(len(candidates)):
        table: dict[object, int] = {}
        next_s = {name: _colour(name, colours_s, source, before, table) for name in colours_s}
        next_t = {name: _colour(name, colours_t, target, after, table) for name in colours_t}
        if Counter(next_s.values()) != Counter(next_t.values()):
            break
        refined = {
            name: {other for other in others if next_t[other] == next_s[name]} for name, others in candidates.items()
        }
        if any(not others for others in refined.values()):
            break
        is_stable = len(set(next_s.values())) == len(set(colours_s.values()))
        colours_s, colours_t, kept = next_s, next_t, refined
        if is_stable:
            break
    return kept


def components(candidates: Candidates) -> list[tuple[list[str], list[str]]]:
    """Groups of source and target units that are candidates for each other only."""
    owner: dict[str, int] = {}
    groups: dict[int, tuple[list[str], list[str]]] = {}
    for index, (name, others) in enumerate(candidates.items()):
        joined = {owner[other] for other in others if other in owner}
        sources, targets = [name], [other for other in others if other not in owner]
        for one in sorted(joined):
            before = groups.pop(one)
            sources, targets = before[0] + sources, before[1] + targets
        groups[index] = (sources, targets)
        owner.update(dict.fromkeys(targets, index))
    return list(groups.values())


def _first(candidates: Candidates) -> tuple[dict[str, int], dict[str, int]]:
    groups = components(candidates)
    sources = {name: index for index, (names, _) in enumerate(groups) for name in names}
    targets = {name: index for index, (_, names) in enumerate(groups) for name in names}
    return sources, targets


def _inverse(edges: Edges) -> Edges:
    found: Edges = {}
    for name, others in edges.items():
        for other in others:
            found.setdefault(other, set()).add(name)
    return found


def _colour(name: str, colours: Mapping[str, int], before: Edges, after: Edges, table: dict[object, int]) -> int:
    near = (
        tuple(sorted(colours[other] for other in side.get(name, ()) if other in colours)) for side in (before, after)
    )
    return table.setdefault((colours[name], *near), len(table))
