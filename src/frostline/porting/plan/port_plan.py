"""The plan of a port: which tensors of the file go into which tensors of the module. No values are read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch.nn.modules.conv import _ConvNd

from frostline.core.errors import AmbiguousPortError, PortError
from frostline.core.restore import evaluating
from frostline.porting.assignment.class_names import of_named_types
from frostline.porting.assignment.matching import Ambiguity, Evidence, Pair, match
from frostline.porting.assignment.names import words
from frostline.porting.assignment.support import supported
from frostline.porting.graphs import source_graph, target_graph
from frostline.porting.graphs.packed_rows import PackedRows
from frostline.porting.layouts import pointwise
from frostline.porting.layouts.choice import moves
from frostline.porting.plan import flattened, folded_norms, idle_layers, layouts, packed_layers
from frostline.porting.plan.hints import checked_hints
from frostline.porting.plan.norm_wrappers import unwrapped
from frostline.porting.plan.preparation import prepared
from frostline.porting.plan.quantised import refuse_integers_alone, without_integers
from frostline.porting.plan.step import OpenGroup, Step
from frostline.porting.plan.tied import remove_ties
from frostline.porting.plan.unfit import SHOWN, listed, no_partner, refuse_unfit
from frostline.porting.readers.torch_archive import CONSTANTS
from frostline.porting.units.forms.attention import is_packed
from frostline.porting.units.forms.forms import grouped, other_forms
from frostline.porting.units.unit import full_name, source_units, target_units

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from torch import nn

    from frostline.porting.certificate import Check
    from frostline.porting.graphs.target_graph import Edges
    from frostline.porting.layouts.layout import Move
    from frostline.porting.readers.contract import Source
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_ANY_OUTPUTS = "pass golden=(inputs, outputs) with outputs of the source network, which decide."
SEVERAL = "pass outputs for other inputs: more than one assignment reproduces the outputs that were passed."
_SHOWN_OUTPUTS = (
    "pass outputs that depend on these layers: for other inputs, or of a later checkpoint in which they act."
)
_FEWER_INPUTS = "pass golden outputs for fewer or smaller inputs, with which more assignments are run."


@dataclass(frozen=True)
class PortPlan:
    """The assignment of layers, and the moves of their tensors.

    Attributes:
        path: Path of the file.
        steps: Pairs of layers that are decided.
        opened: Groups of layers that are not decided.
        unused: Units of the file without a partner; only in a partial port.
        kept: Layers of the module that keep their values; only in a partial port.
        dropped: As of `Source`.
        notes: As of `Source`, and what was decided while planning.
        assumed: Assumptions that neither the file nor a run confirms.
    """

    path: str
    steps: tuple[Step, ...]
    opened: tuple[OpenGroup, ...] = ()
    unused: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    assumed: tuple[Check, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{step.source.name} -> {step.target.name}: {step.reason}"
            + "".join(f"\n    {full_name(step.target, move.target)} = {move.text()}" for move in step.moves)
            for step in self.steps
        ]
        lines += [f"{', '.join(one.sources)} -> one of {', '.join(one.targets)}: {one.why}" for one in self.opened]
        return "\n".join(lines)


def make_plan(
    source: Source, path: str, model: nn.Module, *, hints: Mapping[str, str] | None = None, partial: bool = False,
    inputs: Any = None, has_names: bool = True, has_orders: bool = True, keeps_axes: bool = False,
) -> PortPlan:  # fmt: skip
    """Make the plan for a file and a module.

    Args:
        source: The content of the file.
        path: Path of the file, for error texts.
        model: The module; it is not changed.
        hints: Names of units of the file, and the layers to assign them to.
        partial: Whether layers may remain unassigned on both sides.
        inputs: Inputs of the module, if the caller has some.
        has_names: Whether names and the order of the file count as evidence.
        has_orders: Whether names count as evidence of the order of query, key and value in one matrix.
        keeps_axes: Whether the module has the axes of the file in the same order everywhere.

    Raises:
        PortError: If layers have no partner.
        LayerNotFound: If a hint names a layer that does not exist.
    """
    with evaluating(model):  # in training mode a spectral norm changes its vectors on each access
        targets = target_units(model)
        if is_packed(source_units(source), targets):
            targets = target_units(model, is_packed=True)
    seen, failure = target_graph.followed(model, targets, inputs, source_graph.input_shapes(source))
    bare, of_norms = unwrapped(source_units(source), path)
    ready = prepared(bare, targets, source.layers)
    parts, identities = packed_layers.as_in_module(grouped(ready.units, targets), targets), ()
    if seen is not None and folded_norms.is_folded(parts, targets):
        targets, seen = folded_norms.joined(targets, seen, model)
        identities = (folded_norms.note(targets),)
    targets, shared = remove_ties(targets, parts)
    units, table = _candidates(path, parts, targets)
    by_source, by_target = {unit.name: unit for unit in units}, {unit.name: unit for unit in targets}
    hints = checked_hints(hints if hints is not None else {}, by_source, by_target, table)
    candidates = {name: set(others) for name, others in table.items() if others}
    candidates = of_named_types(candidates, by_source, by_target) if has_names else candidates
    constants = {name for name, unit in by_source.items() if name not in candidates and _is_constant(unit)}
    unused = tuple(name for name in by_source if name not in candidates and name not in constants)
    kept = tuple(name for name in by_target if not any(name in others for others in candidates.values()))
    edges, idle = (seen.edges, seen.idle) if seen is not None else (None, frozenset[str]())
    if not partial and (unused or kept):
        without_partner = [by_source[name] for name in unused], [by_target[name] for name in kept]
        refuse_unfit(path, without_partner[0])
        raise no_partner(path, *without_partner, units, targets, idle)
    has_maps = any(isinstance(unit.module, _ConvNd) for unit in targets)
    classes = {unit.name: words(next(iter(unit.leaves.values())).name.rpartition("/")[0]) for unit in units}
    evidence = Evidence(model, source_graph.flow(source, units), edges, source.order, hints, has_names, classes)
    pairs, opened = match(candidates, list(by_source), list(by_target), evidence)
    if not partial:
        _check_counts(path, opened, idle)
    elif out := idle_layers.in_excess(opened, idle):
        kept += tuple(name for name in by_target if name in out)
        pairs, opened = match(_without(candidates, out), list(by_source), list(by_target), evidence)
    unused += tuple(name for one in opened if not one.targets for name in one.sources)
    kept += tuple(name for one in opened if not one.sources for name in one.targets)
    opened = tuple(one for one in opened if one.sources and one.targets)

    matched, pairs = pairs, supported(pairs, evidence, opened) if partial else pairs
    doubted = [pair for pair in matched if pair.source not in {one.source for one in pairs}]
    unused, kept = (*unused, *(pair.source for pair in doubted)), (*kept, *(pair.target for pair in doubted))

    rows = PackedRows(model, seen.example if seen is not None else None)
    known = replace(layouts.layout_evidence(source, table), has_orders=has_orders, rows=rows)

    def ways_of(pair: Pair) -> tuple[Step, ...]:
        step = _step(pair, by_source, by_target, table)
        orders = (step,) if keeps_axes else flattened.ways(step, seen, source, has_maps=has_maps, failure=failure)
        return tuple(way for one in orders for way in layouts.ways(one, model, known))

    ways = [ways_of(pair) for pair in pairs]
    steps = tuple(step for step, *others in ways if not others and not step.doubt)
    unordered = _as_groups([one for one in ways if len(one) > 1 or any(step.doubt for step in one)])
    groups = tuple(_group(one, table, ways_of, edges) for one in opened)
    dropped = {**source.dropped, **of_norms, **ready.dropped}
    notes = (*source.notes, *ready.notes, *shared, *identities, *map(_left_out, doubted))
    if (unused or kept) and not (steps or groups or unordered):
        raise _nothing_written(path, doubted, [by_source[name] for name in unused], [by_target[name] for name in kept])
    dropped |= {one.name: "constant of the code" for name in constants for one in by_source[name].leaves.values()}
    return PortPlan(path, steps, groups + unordered, unused, kept, dropped, notes)


def _without(candidates: Mapping[str, set[str]], names: set[str]) -> dict[str, set[str]]:
    return {name: others - names for name, others in candidates.items()}


def _left_out(pair: Pair) -> str:
    return (
        f"{pair.source!r} agrees with {pair.target!r} in type and shape only and was left out; "
        f"hints={{{pair.source!r}: {pair.target!r}}} assigns it"
    )


def _is_constant(unit: SourceUnit) -> bool:
    """Whether a unit is a constant in the code of a TorchScript archive; a module has it in its own code."""
    return unit.name.split("/")[0] == CONSTANTS and all(tensor.shape == () for tensor in unit.leaves.values())


def _as_groups(pairs: Sequence[tuple[Step, ...]]) -> tuple[OpenGroup, ...]:
    """Groups for pairs whose layouts are open; packed layers of a file all have the same order."""
    made = [_as_group(ways) for ways in pairs if not ways[0].order]
    by_order: dict[tuple[str, ...], list[tuple[Step, ...]]] = {}
    for ways in pairs:
        if ways[0].order:
            by_order.setdefault(tuple(step.order for step in ways), []).append(ways)
    for of_one in by_order.values():
        group = _as_group(of_one[0])
        steps = {(ways[0].source.name, ways[0].target.name): ways for ways in of_one}
        sources, targets = zip(*steps, strict=True)
        linked = tuple(zip(*of_one, strict=True))
        made.append(replace(group, sources=sources, targets=targets, steps=steps, linked=linked))
    return tuple(made)


def _as_group(ways: tuple[Step, ...]) -> OpenGroup:
    """A group for one pair of layers whose layout is open."""
    source, target = ways[0].source.name, ways[0].target.name
    texts = list(dict.fromkeys(" | ".join(dict.fromkeys(move.text() for move in way.moves)) for way in ways))
    why = ways[0].doubt or f"layouts that fit equally well: {'; or '.join(texts)}"
    return OpenGroup((source,), (target,), why, {(source, target): ways})


def _group(
    opened: Ambiguity, table: Mapping[str, Mapping[str, tuple[Move, ...]]], ways_of: Callable[[Pair], tuple[Step, ...]],
    edges: Edges | None,
) -> OpenGroup:  # fmt: skip
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


def _candidates(
    path: str, units: Sequence[SourceUnit], targets: Sequence[TargetUnit]
) -> tuple[list[SourceUnit], dict[str, dict[str, tuple[Move, ...]]]]:
    """The units in the forms that fit layers of the module, and the layers that each of them fits."""
    found: list[SourceUnit] = []
    table: dict[str, dict[str, tuple[Move, ...]]] = {}
    for unit in units:
        forms = ((form, [_fitting(one, targets) for one in form]) for form in chain(([unit],), other_forms(unit)))
        rows = ((form, fits) for form, fits in forms if all(fits) and not any(one.name in table for one in form))
        form, fits = next(rows, ([unit], [{}]))
        found += form
        table.update(zip((one.name for one in form), fits, strict=True))
    wanted = set[str]().union(*table.values())
    alone = [target for target in targets if target.name not in wanted]
    for unit in found:
        if not table[unit.name]:
            table[unit.name] = _fitting(unit, alone, pointwise.moves)
    return found, without_integers(path, found, targets, table)


def _fitting(
    unit: SourceUnit, targets: Sequence[TargetUnit],
    rule: Callable[[SourceUnit, TargetUnit], tuple[Move, ...] | None] = moves,
) -> dict[str, tuple[Move, ...]]:  # fmt: skip
    return {target.name: made for target in targets if (made := rule(unit, target)) is not None}


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


def _step(
    pair: Pair, sources: Mapping[str, SourceUnit], targets: Mapping[str, TargetUnit],
    table: Mapping[str, Mapping[str, tuple[Move, ...]]],
) -> Step:  # fmt: skip
    return Step(sources[pair.source], targets[pair.target], table[pair.source][pair.target], pair.reason, pair.margin)


def _check_counts(path: str, opened: Sequence[Ambiguity], idle: frozenset[str]) -> None:
    excess = idle_layers.in_excess(opened, idle)
    for one in opened:
        if len(one.sources) != len(one.targets):
            raise PortError(
                what="The file and the module have different numbers of layers of the same type and shape.", where=path,
                received=f"{len(one.sources)} in the file ({listed(one.sources)}), {len(one.targets)} in the module "
                f"({listed(one.targets)}){idle_layers.note(one.targets, idle)}",
                do=idle_layers.remedy(excess) if excess else "build the module like the network of the file, with the "
                "same shared weights (head.weight = embedding.weight); or port the layers that both have: partial=True "
                "with hints.",
            )  # fmt: skip


def _nothing_written(
    path: str, doubted: Sequence[Pair], unused: Sequence[SourceUnit], kept: Sequence[TargetUnit]
) -> PortError:
    refuse_integers_alone(path, unused)
    received = (
        f"of the file {listed(list(map(str, unused)))}; of the module {listed(list(map(str, kept)))}: no layer "
        "agrees with a layer of the other side in type and shape"
    )
    do = "build the module with layers of the file's types and sizes."
    if doubted:
        pairs = [f"{pair.source!r} and {pair.target!r}" for pair in doubted]
        received = f"{listed(pairs)}: they agree in type and shape, but neither in name nor in place"
        do = f"assign them: hints={ {pair.source: pair.target for pair in doubted[:SHOWN]} }."
        if len(doubted) == len(unused) == len(kept):
            do = "leave partial=True out: the file and the module have the same layers."
    return PortError(what="This partial port is refused, as nothing would be written.", where=path,
                     received=received, do=do)  # fmt: skip
