"""Further evidence for pairs of a partial port, in which a common type and shape is not sufficient."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.assignment.names import parts, tokens
from frostline.porting.reasons import WEAK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.assignment.matching import Ambiguity, Evidence, Pair
    from frostline.porting.graphs.target_graph import Edges

# Half of the words: those of `backbone/fc` and `backbone.linear`, but not of `classifier` and `attention.pool`.
MIN_OVERLAP = 0.5
_TYPES = ("linear", "conv", "norm", "embedding")


def supported(pairs: Sequence[Pair], evidence: Evidence, opened: Sequence[Ambiguity] = ()) -> list[Pair]:
    """The pairs that names, or the layers before and after, support.

    Args:
        pairs: Pairs of a partial port.
        evidence: The evidence other than types and shapes.
        opened: Groups of equally many layers on both sides, which may stand before or after a pair in any order.
    """
    groups = [one for one in opened if len(one.sources) == len(one.targets)]
    ours = {name: f"{at}:" for at, one in enumerate(groups) for name in one.sources}
    theirs = {name: f"{at}:" for at, one in enumerate(groups) for name in one.targets}
    kept = {pair.source: pair.target for pair in pairs}
    overlap = {pair.source: word_overlap(pair.source, pair.target) for pair in pairs if pair.reason in WEAK}
    unsupported = {""}
    while unsupported:
        near = ours | kept, theirs | {own: own for own in kept.values()}
        unsupported = {name for name in overlap if name in kept and overlap[name] < MIN_OVERLAP
                and not _is_placed(name, kept[name], *near, evidence)}  # fmt: skip
        kept = {name: other for name, other in kept.items() if name not in unsupported}
    return [
        replace(pair, margin=min(pair.margin, overlap.get(pair.source, 1.0))) for pair in pairs if pair.source in kept
    ]


def word_overlap(source: str, target: str) -> float:
    """The share of words that two names have in common, from 0 to 1; words that only name a type do not count."""
    target = target.partition(":")[0]  # the layer of a stack
    if parts(source) == parts(target) or tokens(source) == tokens(target):
        return 1.0
    ours, theirs = ([word for word in tokens(name) if isinstance(word, str) and word not in _TYPES]
                    for name in (source, target))  # fmt: skip
    both = sum(min(ours.count(word), theirs.count(word)) for word in {*ours})
    return both / (len(ours) + len(theirs) - both) if both else 0.0


def _is_placed(
    source: str, target: str, ours: Mapping[str, str], theirs: Mapping[str, str], evidence: Evidence
) -> bool:
    """Whether the layers before and after both correspond; a layer at an end must be at an end on both sides."""
    if evidence.source_flow is None or evidence.target_flow is None:
        return False
    is_near = False
    for near_s, near_t in (
        (evidence.source_flow.get(source, set()), evidence.target_flow.get(target, set())),
        (_after(evidence.source_flow, source), _after(evidence.target_flow, target)),
    ):
        known = {ours.get(name) for name in near_s}
        if known != {theirs.get(name) for name in near_t}:
            return False
        is_near = is_near or bool(known - {None})
    return is_near


def _after(edges: Edges, name: str) -> set[str]:
    return {other for other, before in edges.items() if name in before}
