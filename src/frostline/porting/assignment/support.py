"""Pairs of a partial port that only fit: where layers may be left over, one type and shape is no evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.assignment.names import parts, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.assignment.matching import Evidence, Open, Pair
    from frostline.porting.graphs.target_graph import Edges

# Half of the words: those of `backbone/fc` and `backbone.linear`, but not of `classifier` and `attention.pool`.
ALIKE = 0.5
_TYPES = ("linear", "conv", "norm", "embedding")
ONLY, LEFT = "no other layer has this type and shape", "no other layer of this type and shape is left"
DOUBTED = (ONLY, LEFT, "what names left over", "its block: layers whose names begin alike")


def supported(pairs: Sequence[Pair], evidence: Evidence, opened: Sequence[Open] = ()) -> list[Pair]:
    """Pairs that something beside their shapes speaks for: a name, or what stands before and after both.

    Args:
        pairs: Of a partial port.
        evidence: What else is known.
        opened: Groups of as many layers, which may stand before or after a pair, in whatever order.
    """
    groups = [one for one in opened if len(one.sources) == len(one.targets)]
    ours = {name: f"{at}:" for at, one in enumerate(groups) for name in one.sources}
    theirs = {name: f"{at}:" for at, one in enumerate(groups) for name in one.targets}
    kept = {pair.source: pair.target for pair in pairs}
    alike = {pair.source: resemblance(pair.source, pair.target) for pair in pairs if pair.reason in DOUBTED}
    lost = {""}
    while lost:
        near = ours | kept, theirs | {own: own for own in kept.values()}
        lost = {name for name in alike if name in kept and alike[name] < ALIKE
                and not _is_placed(name, kept[name], *near, evidence)}  # fmt: skip
        kept = {name: other for name, other in kept.items() if name not in lost}
    return [
        replace(pair, margin=min(pair.margin, alike.get(pair.source, 1.0))) for pair in pairs if pair.source in kept
    ]


def resemblance(source: str, target: str) -> float:
    """The share of words that two names have in common, from 0 to 1; words that tell only a type do not count."""
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
    """Whether what stands before and after both is the same, and no end of one stands inside of the other."""
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
