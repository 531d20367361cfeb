"""Which layer of the file becomes which layer of the module: by type and shape, then by place, names and order.

Type and shape say what is possible. Of what is possible, a pair is taken if nothing else is left for one of the two;
else if the flow of values, the names or the order tell it apart, and do not contradict each other. What is left then is
an ambiguity, and a result: golden outputs or a run may settle it, a guess may not.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from frostline.porting.assignment import kinship
from frostline.porting.assignment.likely import likely
from frostline.porting.assignment.names import likeness, parts, tokens
from frostline.porting.assignment.topology import Candidates, components, refine
from frostline.porting.graphs import target_graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.graphs.target_graph import Edges

# How much more alike in sum the names of the best assignment must be than of the second best: half a word of three.
CLEAR_MARGIN = 0.15
ENOUGH = 0.4  # and how alike they must be on average: names of three letters share some by chance


@dataclass(frozen=True)
class Pair:
    """One unit of the file and the layer that it becomes.

    Attributes:
        source: The unit.
        target: The layer.
        reason: What told it.
        margin: By how much it was told: 1 if nothing else was possible, else how much more alike the names are than in
            the second best assignment.
    """

    source: str
    target: str
    reason: str
    margin: float


@dataclass(frozen=True)
class Open:
    """Units that fit several layers, and what could not tell them apart.

    Attributes:
        sources: The units.
        targets: The layers, the likely one of each unit first.
        why: What was asked, and what it answered.
        is_counted: Whether the file counts the units in an order, in which values flow through the network.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    why: str
    is_counted: bool = False


@dataclass(frozen=True)
class Evidence:
    """What is known beside types and shapes.

    Attributes:
        model: The module.
        source_flow: As of `source_graph.flow`.
        target_flow: As of `target_graph.flow`.
        order: As of `Source`; `layers` if the numbers are those in which Keras made the layers, whatever their names.
        hints: Of the user: target unit by source unit.
    """

    model: nn.Module
    source_flow: Edges | None
    target_flow: Edges | None
    order: str
    hints: Mapping[str, str] = field(default_factory=dict[str, str])


def match(
    candidates: Candidates, order: Sequence[str], targets: Sequence[str], evidence: Evidence
) -> tuple[tuple[Pair, ...], tuple[Open, ...]]:
    """Pairs of units that are told, and groups that are not.

    Args:
        candidates: For each source unit the target units that it may become by type and shape.
        order: All source units, in the order of the file.
        targets: All target units, in the order of registration.
        evidence: What else is known.
    """
    pairs: list[Pair] = []
    left = {name: set(others) for name, others in candidates.items()}
    for source, target in evidence.hints.items():
        if source in left:
            _take(left, pairs, Pair(source, target, "your hint", 1.0))
    _propagate(left, pairs, "no other layer has this type and shape")
    if evidence.source_flow is not None and evidence.target_flow is not None:
        refined = refine(
            {pair.source: {pair.target} for pair in pairs} | left, evidence.source_flow, evidence.target_flow
        )
        left = {name: refined[name] for name in left}
        _propagate(left, pairs, "its place in the flow of values")
    asked: dict[tuple[str, ...], str] = {}
    while True:
        group = next((one for one in components(left) if tuple(sorted(one[0])) not in asked), None)
        if group is None:
            kin = kinship.refine(left, {pair.source: pair.target for pair in pairs})
            if kin == left:
                break
            left = kin
            _propagate(left, pairs, "its block: layers whose names begin alike")
            continue
        sources, others = sorted(group[0], key=order.index), sorted(group[1], key=targets.index)
        found, asked[tuple(sorted(sources))] = _told(sources, others, evidence)
        for pair in found:
            _take(left, pairs, pair)
        _propagate(left, pairs, "no other layer of this type and shape is left")
    opened = [_open(*group, order, targets, asked, evidence) for group in components(left)]
    return tuple(sorted(pairs, key=lambda pair: order.index(pair.source))), tuple(opened)


def _open(
    sources: list[str], others: list[str], order: Sequence[str], targets: Sequence[str],
    asked: Mapping[tuple[str, ...], str], evidence: Evidence,
) -> Open:  # fmt: skip
    found = tuple(sorted(sources, key=order.index))
    is_counted = len(sources) == len(others) and _is_counted(found, evidence)
    guess = likely(found, sorted(others, key=targets.index), evidence.target_flow)
    return Open(found, guess, asked[tuple(sorted(sources))], is_counted)


def _take(left: Candidates, pairs: list[Pair], pair: Pair) -> None:
    pairs.append(pair)
    left.pop(pair.source, None)
    for others in left.values():
        others.discard(pair.target)


def _propagate(left: Candidates, pairs: list[Pair], reason: str) -> None:
    """Take what is the only candidate of a source or of a target, until nothing is."""
    while True:
        single = next(((name, next(iter(others))) for name, others in left.items() if len(others) == 1), None)
        if single is None:
            sought: dict[str, list[str]] = {}
            for name, others in left.items():
                for other in others:
                    sought.setdefault(other, []).append(name)
            sole = next(((names[0], other) for other, names in sought.items() if len(names) == 1), None)
            if sole is None or sum(len(group[0]) != len(group[1]) for group in components(left) if sole[0] in group[0]):
                return
            single = sole
        elif any(len(group[0]) != len(group[1]) for group in components(left) if single[0] in group[0]):
            return
        _take(left, pairs, Pair(*single, reason, 1.0))


def _told(sources: list[str], targets: list[str], evidence: Evidence) -> tuple[list[Pair], str]:
    """The pairs of one group, or why they cannot be told."""
    if len(sources) != len(targets):
        return [], f"{len(sources)} layers of the file fit {len(targets)} layers of the module"
    same = _of_equal_names(sources, targets)
    by_names, margin = _of_names(sources, targets)
    by_order = dict(zip(sources, targets, strict=True)) if _is_ordered(sources, targets, evidence) else None
    by_order = by_order or _of_a_sequence(sources, targets, evidence.model)
    if same is not None:
        return [Pair(source, target, "the same name", 1.0) for source, target in same.items()], ""
    if by_names is None and by_order is None:
        return [], f"names do not tell them apart (margin {margin:.2f} of {CLEAR_MARGIN}), nor does the flow of values"
    if by_names is None or by_order is None or by_names == by_order:
        told = by_names or by_order or {}
        reason = (
            "names and order" if by_names == by_order else "names" if by_names else "order along the flow of values"
        )
        return [Pair(source, target, reason, margin if by_names else 0.0) for source, target in told.items()], ""
    return [], "names and order contradict each other"


def _of_equal_names(sources: list[str], targets: list[str]) -> dict[str, str] | None:
    """By names that are the same but for separators and a beginning that all share."""
    left = {tokens(name): name for name in sources}
    right = {tokens(name): name for name in targets}
    if len(left) != len(sources) or len(right) != len(targets) or set(left) != set(right) or () in left:
        return None
    return {name: right[key] for key, name in left.items()}


def _of_names(sources: list[str], targets: list[str]) -> tuple[dict[str, str] | None, float]:
    """The assignment whose names are most alike, if no other comes near; and by how much it is better."""
    from scipy.optimize import linear_sum_assignment

    alike = np.array(likeness(sources, targets))
    rows, columns = linear_sum_assignment(-alike)
    best = float(alike[rows, columns].sum())
    second = -np.inf
    for row, column in zip(rows, columns, strict=True):
        without = alike.copy()
        without[row, column] = -len(sources) - 1.0
        others = linear_sum_assignment(-without)
        second = max(second, float(without[others].sum()))
    margin = min(1.0, best - second)
    found = {sources[row]: targets[column] for row, column in zip(rows, columns, strict=True)}
    chosen = alike[rows, columns]
    is_alike = chosen > 0  # or like nothing else, so that both are what is left over
    is_left = (alike.max(1)[rows] == 0) & (alike.max(0)[columns] == 0)
    is_clear = margin >= CLEAR_MARGIN and float(chosen.mean()) >= ENOUGH and bool((is_alike | is_left).all())
    return (found if is_clear else None), margin


def _of_a_sequence(sources: list[str], targets: list[str], model: nn.Module) -> dict[str, str] | None:
    """By the numbers in names that count one kind of layer (`fc1`, `fc2`), and the entries of one `Sequential`.

    Its numbers have gaps where layers without weights stand.
    """
    numbers = {tuple(int(part) for part in parts(name) if part.isdigit()): name for name in sources}
    if len(numbers) < len(sources) or len({len(number) for number in numbers}) > 1 or () in numbers:
        return None
    if len({_words(name) for name in sources}) > 1:
        return None
    changing = [column for column in zip(*sorted(numbers), strict=True) if len(set(column)) > 1]
    if len(changing) != 1 or list(changing[0]) != list(range(changing[0][0], changing[0][0] + len(sources))):
        return None
    holders = {name.rpartition(".")[0] for name in targets}
    holder = model.get_submodule(holders.pop()) if len(holders) == 1 else None
    if not isinstance(holder, nn.Sequential):
        return None
    entries = list(holder._modules)
    places = {name.rpartition(".")[2]: name for name in targets}
    if not set(places) <= set(entries):
        return None
    ordered = [places[entry] for entry in entries if entry in places]
    return dict(zip((numbers[number] for number in sorted(numbers)), ordered, strict=True))


def _is_ordered(sources: list[str], targets: list[str], evidence: Evidence) -> bool:
    """Whether the file counts these layers in an order, and values flow through them one after the other."""
    if not _is_counted(sources, evidence):
        return False
    pairs = list(itertools.pairwise(targets))
    if evidence.target_flow is not None:
        return all(target_graph.is_before(evidence.target_flow, one, other) for one, other in pairs)
    return all(target_graph.is_before_in_containers(evidence.model, one, other) for one, other in pairs)


def _is_counted(sources: Sequence[str], evidence: Evidence) -> bool:
    """Whether the order of these units is one in which their layers were made."""
    if evidence.order != "numbers":
        return evidence.order != "file"
    if len({_words(name) for name in sources}) > 1:
        return False  # numbers count layers of one name; layers of others stand between them in no order
    numbers = [tuple(int(part) for part in parts(name) if part.isdigit()) for name in sources]
    return numbers == sorted(numbers)


def _words(name: str) -> tuple[str, ...]:
    return tuple(part for part in parts(name) if not part.isdigit())
