"""The assignment of layers by type and shape, then by place in the flow of values, names and order.

Type and shape determine the candidates. A pair is assigned if one of the two has no other candidate; otherwise, if the
flow of values, names or order distinguish it without contradiction. The rest is returned as an ambiguity, which golden
outputs or a run may resolve.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from frostline.porting import reasons
from frostline.porting.assignment import name_prefixes
from frostline.porting.assignment.names import is_crossed, parts, similarities, tokens, words
from frostline.porting.assignment.suggested_order import suggest_order
from frostline.porting.assignment.topology import Candidates, components, refine
from frostline.porting.graphs import target_graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.graphs.target_graph import Edges

# Minimum lead of the best assignment over the second best, in summed similarity of names: half a word of three.
CLEAR_MARGIN = 0.15
ENOUGH = 0.4  # minimum average similarity of names: names of three letters share some by chance
NUMBERS_MARGIN = 0.1  # the largest margin of pairs assigned by numbers alone: networks are numbered from either end
CONTRADICTION = "names and order contradict each other"
CROSSED = "the numbers in names assign layers in more than one way: the words before them are in another order"
SET_ASIDE = "names and order were not used: the assignment that they suggest does not give the golden outputs"


@dataclass(frozen=True)
class Pair:
    """One unit of the file, and the layer that it is assigned to.

    Attributes:
        source: The unit.
        target: The layer.
        reason: The evidence for this pair.
        margin: How clear the evidence is: 1 if nothing else was possible, else the lead in similarity of names over the
            second best assignment.
    """

    source: str
    target: str
    reason: str
    margin: float


@dataclass(frozen=True)
class Ambiguity:
    """Units that fit several layers, and why the evidence does not distinguish them.

    Attributes:
        sources: The units.
        targets: The layers, in the order that is likely for the units.
        why: Why the evidence does not decide.
        is_counted: Whether the file numbers the units in an order that follows the flow of values.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    why: str
    is_counted: bool = False


# Each kind of evidence is asked alone, in a fixed order. One score that adds them up would let many weak hints
# outvote the flow of values, and would not show a contradiction.
@dataclass(frozen=True)
class Evidence:
    """The evidence other than types and shapes.

    Attributes:
        model: The module.
        source_flow: The result of `source_graph.flow`.
        target_flow: The result of `target_graph.followed`.
        order: As `Source.order`.
        hints: The hints of the user: target unit by source unit.
        has_names: Whether names and the order of the file count as evidence.
        classes: By source unit the class of layers that the file numbers together, if `order` is `layers`.
    """

    model: nn.Module
    source_flow: Edges | None
    target_flow: Edges | None
    order: str
    hints: Mapping[str, str] = field(default_factory=dict[str, str])
    has_names: bool = True
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict[str, "Sequence[str]"])


def match(
    candidates: Candidates, order: Sequence[str], targets: Sequence[str], evidence: Evidence
) -> tuple[tuple[Pair, ...], tuple[Ambiguity, ...]]:
    """Assign units; return the pairs, and the groups that remain open.

    Args:
        candidates: For each source unit the target units with the same type and shape.
        order: All source units, in the order of the file.
        targets: All target units, in the order of registration.
        evidence: The evidence other than types and shapes.
    """
    pairs: list[Pair] = []
    left = {name: set(others) for name, others in candidates.items()}
    for source, target in evidence.hints.items():
        if source in left:
            _take(left, pairs, Pair(source, target, reasons.HINT, 1.0))
    _propagate(left, pairs, reasons.SINGLE)
    if evidence.source_flow is not None and evidence.target_flow is not None:
        refined = refine(
            {pair.source: {pair.target} for pair in pairs} | left, evidence.source_flow, evidence.target_flow
        )
        left = {name: refined[name] for name in left}
        _propagate(left, pairs, reasons.FLOW)
    considered: dict[tuple[str, ...], str] = {}
    while True:
        group = next((one for one in components(left) if tuple(sorted(one[0])) not in considered), None)
        if group is None:
            refined = (
                name_prefixes.refine(left, {pair.source: pair.target for pair in pairs}) if evidence.has_names else left
            )
            if refined == left:
                break
            left = refined
            _propagate(left, pairs, reasons.PREFIX, _least(pairs))
            continue
        sources, others = sorted(group[0], key=order.index), sorted(group[1], key=targets.index)
        found, considered[tuple(sorted(sources))] = _decide(sources, others, evidence)
        for pair in found:
            _take(left, pairs, pair)
        _propagate(left, pairs, reasons.LAST, _least(pairs))
    opened = [_open(*group, order, targets, considered, evidence) for group in components(left)]
    return tuple(sorted(pairs, key=lambda pair: order.index(pair.source))), tuple(opened)


def _open(
    sources: list[str], others: list[str], order: Sequence[str], targets: Sequence[str],
    considered: Mapping[tuple[str, ...], str], evidence: Evidence,
) -> Ambiguity:  # fmt: skip
    found = tuple(sorted(sources, key=order.index))
    is_counted = len(sources) == len(others) and _is_counted(found, evidence)
    guess = suggest_order(found, sorted(others, key=targets.index), evidence.target_flow)
    return Ambiguity(found, guess, considered[tuple(sorted(sources))], is_counted)


def _least(pairs: Sequence[Pair]) -> float:
    """The smallest margin of pairs: the margin of a pair that depends on all of them."""
    return min((pair.margin for pair in pairs), default=1.0)


def _take(left: Candidates, pairs: list[Pair], pair: Pair) -> None:
    pairs.append(pair)
    left.pop(pair.source, None)
    for others in left.values():
        others.discard(pair.target)


def _propagate(left: Candidates, pairs: list[Pair], reason: str, margin: float = 1.0) -> None:
    """Assign pairs in which one side has a single candidate, until there are none.

    Only groups with as many sources as targets are changed: in these, such a pair is part of every assignment.
    """
    for sources, _ in [group for group in components(left) if _is_whole(left, *group)]:
        sources_of: dict[str, set[str]] = {}
        for name in sources:
            for other in left[name]:
                sources_of.setdefault(other, set()).add(name)
        waiting = [(name, other) for name in sources for other in left[name]
                   if len(left[name]) == 1 or len(sources_of[other]) == 1]  # fmt: skip
        while waiting:
            name, other = waiting.pop()
            if name not in left:
                continue
            pairs.append(Pair(name, other, reason, margin))
            for lost in left.pop(name) - {other}:
                sources_of[lost].discard(name)
                waiting += [(one, lost) for one in sources_of[lost] if len(sources_of[lost]) == 1]
            for one in sources_of.pop(other) - {name}:
                left[one].discard(other)
                waiting += [(one, last) for last in left[one] if len(left[one]) == 1]


def _is_whole(left: Candidates, sources: Sequence[str], targets: Sequence[str]) -> bool:
    """Whether there is an assignment of all sources to all targets."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if len(sources) != len(targets):
        return False
    place = {name: index for index, name in enumerate(targets)}
    edges = [(row, place[other]) for row, name in enumerate(sources) for other in left[name]]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    table = csr_array((np.ones(len(edges)), (rows, columns)), shape=(len(sources), len(targets)))
    return bool((maximum_bipartite_matching(table) >= 0).all())


def _decide(sources: list[str], targets: list[str], evidence: Evidence) -> tuple[list[Pair], str]:
    """The pairs of one group, or why the evidence does not decide."""
    if len(sources) != len(targets):
        return [], f"{len(sources)} layers of the file fit {len(targets)} layers of the module"
    if not evidence.has_names:
        return [], SET_ASIDE
    by_order = dict(zip(sources, targets, strict=True)) if _is_ordered(sources, targets, evidence) else None
    same = _of_equal_names(sources, targets)
    names = _of_names(sources, targets, has_numbers=evidence.order != "made") if same is None else Names(same, 1.0)
    by_count = _of_a_sequence(sources, targets, evidence.model) if evidence.order != "made" else None
    if names.found is None and by_order is None and by_count is not None:
        return [
            Pair(source, target, reasons.NUMBERS_IN_NAMES, NUMBERS_MARGIN) for source, target in by_count.items()
        ], ""
    if names.found is not None and by_order is not None and names.found != by_order:
        return [], CONTRADICTION
    if names.found is None:
        if by_order is None:
            return [], _unclear(names.margin)
        return [Pair(source, target, reasons.ORDER, 0.0) for source, target in by_order.items()], ""
    reason, margin = (reasons.SAME_NAME if same is not None else reasons.NAMES), names.margin
    if same is None and _of_names(sources, targets, has_numbers=False).found is None:
        if is_crossed(sources, targets):
            return [], CROSSED
        reason, margin = reasons.NUMBERS_IN_NAMES, min(margin, NUMBERS_MARGIN)
    if (
        same is None
        and by_order is not None
        and not (reason == reasons.NUMBERS_IN_NAMES and evidence.order == "numbers")
    ):
        reason = reasons.NAMES_AND_ORDER
    return [
        Pair(source, target, *((reasons.REMAINING_NAMES, 0.0) if source in names.left else (reason, margin)))
        for source, target in names.found.items()
    ], ""


def _unclear(margin: float) -> str:
    """Why names do not decide: the best assignment is hardly better than others, or its names are hardly alike."""
    lead = f"the best assignment by names leads by {margin:.2f}, {CLEAR_MARGIN} would be clear"
    alike = "the names that are most alike have too little in common"
    return f"names do not distinguish them ({lead if margin < CLEAR_MARGIN else alike}), nor does the flow"


def _of_equal_names(sources: list[str], targets: list[str]) -> dict[str, str] | None:
    """The assignment by names that are equal except for separators and a common prefix."""
    left = {tokens(name): name for name in sources}
    right = {tokens(name): name for name in targets}
    if len(left) != len(sources) or len(right) != len(targets) or set(left) != set(right) or () in left:
        return None
    return {name: right[key] for key, name in left.items()}


@dataclass(frozen=True)
class Names:
    """The evidence from names.

    Attributes:
        found: The assignment with the most similar names, if its lead is sufficient.
        margin: Its lead over the second best.
        left: Sources whose names resemble none, which were assigned to the remaining targets.
    """

    found: dict[str, str] | None
    margin: float
    left: frozenset[str] = frozenset()


def _of_names(sources: list[str], targets: list[str], *, has_numbers: bool) -> Names:
    from scipy.optimize import linear_sum_assignment

    alike = np.array(similarities(sources, targets, has_numbers=has_numbers))
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
    # A pair without similarity counts only if neither name resembles any other name: both are left over.
    is_alike = chosen > 0
    is_left = (alike.max(1)[rows] == 0) & (alike.max(0)[columns] == 0)
    is_clear = margin >= CLEAR_MARGIN and float(chosen.mean()) >= ENOUGH and bool((is_alike | is_left).all())
    left = frozenset(sources[row] for row, is_one in zip(rows, is_left, strict=True) if is_one)
    return Names(found if is_clear else None, margin, left)


def _of_a_sequence(sources: list[str], targets: list[str], model: nn.Module) -> dict[str, str] | None:
    """The assignment of numbered names of one kind of layer (`fc1`, `fc2`) to the entries of one `Sequential`.

    The numbers of the entries have gaps at layers without weights.
    """
    numbers = {tuple(int(part) for part in parts(name) if part.isdigit()): name for name in sources}
    if len(numbers) < len(sources) or len({len(number) for number in numbers}) > 1 or () in numbers:
        return None
    if len({words(name) for name in sources}) > 1:
        return None
    changing = [column for column in zip(*sorted(numbers), strict=True) if len(set(column)) > 1]
    if len(changing) != 1 or list(changing[0]) != list(range(changing[0][0], changing[0][0] + len(sources))):
        return None
    holders = {name.rpartition(".")[0] for name in targets}
    holder = dict(model.named_modules()).get(holders.pop()) if len(holders) == 1 else None
    if not isinstance(holder, nn.Sequential):
        return None
    entries = list(holder._modules)
    places = {name.rpartition(".")[2]: name for name in targets}
    if not set(places) <= set(entries):
        return None
    ordered = [places[entry] for entry in entries if entry in places]
    return dict(zip((numbers[number] for number in sorted(numbers)), ordered, strict=True))


def _is_ordered(sources: list[str], targets: list[str], evidence: Evidence) -> bool:
    """Whether the file numbers these layers in order, and the module runs its layers one after the other."""
    if not _is_counted(sources, evidence):
        return False
    pairs = list(itertools.pairwise(targets))
    if evidence.target_flow is not None:
        return all(target_graph.is_before(evidence.target_flow, one, other) for one, other in pairs)
    return all(target_graph.is_before_in_containers(evidence.model, one, other) for one, other in pairs)


def _is_counted(sources: Sequence[str], evidence: Evidence) -> bool:
    """Whether the network of the file runs these units in their order."""
    if evidence.order in ("file", "made", "graph"):
        return evidence.order == "graph"
    of_one = evidence.classes if evidence.order == "layers" else {name: words(name) for name in sources}
    if len({of_one.get(name) for name in sources}) > 1:
        return False  # the relative order of layers of different classes is unknown
    numbers = [tuple(int(part) for part in parts(name) if part.isdigit()) for name in sources]
    return evidence.order == "layers" or numbers == sorted(numbers)
