"""What the evidence leaves open: the groups of layers that a plan does not decide, and their refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.errors import AmbiguousPortError
from frostline.porting.assignment.matching import Ambiguity, Pair
from frostline.porting.graphs import target_graph
from frostline.porting.plan import flattened
from frostline.porting.plan.step import OpenGroup, Step
from frostline.porting.plan.unfit import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from frostline.porting.graphs.target_graph import Edges
    from frostline.porting.layouts.layout import Move
    from frostline.porting.plan.port_plan import PortPlan

SEVERAL = "pass outputs for other inputs: more than one assignment reproduces the outputs that were passed."
_ANY_OUTPUTS = "pass golden=(inputs, outputs) with outputs of the source network, which decide."
_SHOWN_OUTPUTS = (
    "pass outputs that depend on these layers: for other inputs, or of a later checkpoint in which they act."
)
_FEWER_INPUTS = "pass golden outputs for fewer or smaller inputs, with which more assignments are run."


def open_layers(
    opened: Ambiguity, table: Mapping[str, Mapping[str, tuple[Move, ...]]], ways_of: Callable[[Pair], tuple[Step, ...]],
    edges: Edges | None,
) -> OpenGroup:  # fmt: skip
    """The group for layers of the file that fit several layers of the module.

    Args:
        opened: The layers.
        table: The moves of each pair that fits.
        ways_of: The possible steps of a pair.
        edges: The flow of values in the module; None if it is not known.
    """
    steps = {
        (name, other): ways_of(Pair(name, other, opened.why, 0.0))
        for name in opened.sources
        for other in opened.targets
        if other in table[name]
    }
    before: dict[str, frozenset[str]] = {}
    if opened.is_counted and edges is not None:
        before = {
            name: frozenset(other for other in opened.targets if target_graph.is_before(edges, other, name))
            for name in opened.targets
        }
    return OpenGroup(opened.sources, opened.targets, opened.why, steps, before if any(before.values()) else {})


def open_layouts(pairs: Sequence[tuple[Step, ...]]) -> tuple[OpenGroup, ...]:
    """Groups for pairs whose layouts are open; packed layers of a file all have the same order."""
    made = [_open_layout(ways) for ways in pairs if not ways[0].order]
    by_order: dict[tuple[str, ...], list[tuple[Step, ...]]] = {}
    for ways in pairs:
        if ways[0].order:
            by_order.setdefault(tuple(step.order for step in ways), []).append(ways)
    for of_one in by_order.values():
        group = _open_layout(of_one[0])
        steps = {(ways[0].source.name, ways[0].target.name): ways for ways in of_one}
        sources, targets = zip(*steps, strict=True)
        linked = tuple(zip(*of_one, strict=True))
        made.append(replace(group, sources=sources, targets=targets, steps=steps, linked=linked))
    return tuple(made)


def _open_layout(ways: tuple[Step, ...]) -> OpenGroup:
    source, target = ways[0].source.name, ways[0].target.name
    texts = list(dict.fromkeys(" | ".join(dict.fromkeys(move.text() for move in way.moves)) for way in ways))
    why = ways[0].doubt or f"layouts that fit equally well: {'; or '.join(texts)}"
    return OpenGroup((source,), (target,), why, {(source, target): ways})


def refuse_ambiguity(plan: PortPlan, remedy: str = "", *, unseen: Collection[str] = (), over: str = "") -> None:
    """Refuse a plan with open groups.

    Args:
        plan: The plan.
        remedy: What to do, if outputs were compared and did not decide; empty if none were.
        unseen: Layers of the module on which the outputs that were compared do not depend.
        over: What a search did that was given up, if one was.

    Raises:
        AmbiguousPortError: If a group is open; the error lists the candidates.
    """
    if not plan.opened:
        return
    found = [one for one in plan.opened if not unseen or set(one.targets) & set(unseen)]
    first, groups = found[0], [one for one in found if not one.is_pair]
    remedy, why = remedy or _ANY_OUTPUTS, ""
    if unseen:
        remedy, why = _SHOWN_OUTPUTS, f"; the compared outputs do not depend on {listed(sorted(unseen))}"
    if over:
        remedy, why = _FEWER_INPUTS, f"; {over}"
    if not groups:
        doubt = next(first.ways())[0].doubt
        raise AmbiguousPortError(
            what=f"The layout of the weights of {first.targets[0]!r} in the file is ambiguous.",
            where=f"{plan.path}: {first.sources[0]}", received=f"{first.why}{why}",
            do=flattened.WRITTEN_OTHERWISE if doubt == flattened.NOT_FOLLOWED else remedy,
        )  # fmt: skip
    first = groups[0]
    alternatives = tuple(
        dict(zip(one.sources, order, strict=False))
        for one in groups
        for order in (one.targets, (*one.targets[1:], one.targets[0]))
    )
    raise AmbiguousPortError(
        what=f"{len(groups)} group{'s' if len(groups) > 1 else ''} of layers of the file fit the module in more than "
        "one way.",
        where=f"{plan.path}: {listed(first.sources)}",
        received=f"layers that fit equally well: {listed(first.targets)}; {first.why}{why}",
        do=f"assign the layers with hints={{{first.sources[0]!r}: {first.targets[0]!r}, ...}}; or {remedy}",
        alternatives=alternatives,
    )
