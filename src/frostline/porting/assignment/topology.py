"""Where a layer stands in the flow of values: colours that are refined on both networks at once.

References:
    Weisfeiler and Leman, "A reduction of a graph to a canonical form", 1968.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.graphs.target_graph import Edges

Candidates = dict[str, set[str]]  # of a source unit: the target units that it may become


def refine(candidates: Candidates, source: Edges, target: Edges) -> Candidates:
    """The candidates that stand at the same place in both networks.

    Layers begin with the colour of what they may become, and take on those of the layers before and after them, round
    by round. The last round in which both networks have as many layers of each colour is the answer: where the module
    computes the same in another structure, what can be told before that shows stays told.
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
    """Sets of source units and of target units that may only become each other."""
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
