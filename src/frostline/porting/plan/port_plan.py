"""The plan of a port: which tensors of the file go into which tensors of the module. No values are read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch.nn.modules.conv import _ConvNd

from frostline.porting.assignment.class_names import of_named_types
from frostline.porting.assignment.matching import Ambiguity, Evidence, Pair, match
from frostline.porting.assignment.names import words
from frostline.porting.assignment.support import supported
from frostline.porting.graphs import source_graph
from frostline.porting.graphs.packed_rows import PackedRows
from frostline.porting.plan import flattened, idle_layers, layouts
from frostline.porting.plan.ambiguity import open_layers, open_layouts
from frostline.porting.plan.hints import checked_hints
from frostline.porting.plan.sides import Sides, both_sides
from frostline.porting.plan.step import OpenGroup, Step
from frostline.porting.plan.unfit import no_partner, nothing_written, refuse_counts, refuse_unfit
from frostline.porting.readers.torch_archive import CONSTANTS
from frostline.porting.units.unit import full_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from frostline.porting.certificate import Check
    from frostline.porting.readers.contract import Source
    from frostline.porting.units.unit import SourceUnit


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
    sides = both_sides(source, path, model, inputs)
    hints = checked_hints(hints if hints is not None else {}, sides.units, sides.targets, sides.table)
    classes = {name: words(next(iter(unit.leaves.values())).name.rpartition("/")[0]) for name, unit in
               sides.units.items()}  # fmt: skip
    edges = sides.flow.edges if sides.flow is not None else None
    flow = source_graph.flow(source, list(sides.units.values()))
    evidence = Evidence(model, flow, edges, source.order, hints, has_names, classes)
    constants = [unit for name, unit in sides.units.items() if not sides.table[name] and _is_constant(unit)]
    found = _assigned(sides, evidence, path, {unit.name for unit in constants}, partial=partial)

    rows = PackedRows(model, sides.flow.example if sides.flow is not None else None)
    known = replace(layouts.layout_evidence(source, sides.table), has_orders=has_orders, rows=rows)
    has_maps = any(isinstance(unit.module, _ConvNd) for unit in sides.targets.values())

    def ways_of(pair: Pair) -> tuple[Step, ...]:
        unit, target, made = sides.units[pair.source], sides.targets[pair.target], sides.table[pair.source][pair.target]
        orders = (Step(unit, target, made, pair.reason, pair.margin),)
        if not keeps_axes:
            orders = flattened.ways(orders[0], sides.flow, source, has_maps=has_maps, failure=sides.failure)
        return tuple(way for one in orders for way in layouts.ways(one, model, known))

    ways = [ways_of(pair) for pair in found.pairs]
    steps = tuple(step for step, *others in ways if not others and not step.doubt)
    unordered = open_layouts([one for one in ways if len(one) > 1 or any(step.doubt for step in one)])
    groups = tuple(open_layers(one, sides.table, ways_of, edges) for one in found.opened)
    if (found.unused or found.kept) and not (steps or groups or unordered):
        left = [sides.units[name] for name in found.unused], [sides.targets[name] for name in found.kept]
        raise nothing_written(path, found.doubted, *left)
    dropped = sides.dropped | {one.name: "constant of the code" for unit in constants for one in unit.leaves.values()}
    notes = (*sides.notes, *map(_left_out, found.doubted))
    return PortPlan(path, steps, groups + unordered, found.unused, found.kept, dropped, notes)


@dataclass(frozen=True)
class _Assigned:
    """The assignment of layers, before their layouts: `doubted` pairs are left out of a partial port."""

    pairs: Sequence[Pair]
    opened: Sequence[Ambiguity]
    doubted: Sequence[Pair]
    unused: tuple[str, ...]
    kept: tuple[str, ...]


def _assigned(sides: Sides, evidence: Evidence, path: str, constants: set[str], *, partial: bool) -> _Assigned:
    candidates = {name: set(others) for name, others in sides.table.items() if others}
    if evidence.has_names:
        candidates = of_named_types(candidates, sides.units, sides.targets)
    unused = tuple(name for name in sides.units if name not in candidates and name not in constants)
    kept = tuple(name for name in sides.targets if not any(name in others for others in candidates.values()))
    idle = sides.flow.idle if sides.flow is not None else frozenset[str]()
    if not partial and (unused or kept):
        without_partner = [sides.units[name] for name in unused], [sides.targets[name] for name in kept]
        refuse_unfit(path, without_partner[0])
        raise no_partner(path, *without_partner, len(sides.units), len(sides.targets), idle)
    pairs, opened = match(candidates, list(sides.units), list(sides.targets), evidence)
    if not partial:
        refuse_counts(path, opened, idle)
        return _Assigned(pairs, opened, [], (), ())
    if out := idle_layers.in_excess(opened, idle):
        kept += tuple(name for name in sides.targets if name in out)
        candidates = {name: others - out for name, others in candidates.items()}
        pairs, opened = match(candidates, list(sides.units), list(sides.targets), evidence)
    unused += tuple(name for one in opened if not one.targets for name in one.sources)
    kept += tuple(name for one in opened if not one.sources for name in one.targets)
    opened = [one for one in opened if one.sources and one.targets]
    trusted = supported(pairs, evidence, opened)
    doubted = [pair for pair in pairs if pair.source not in {one.source for one in trusted}]
    unused += tuple(pair.source for pair in doubted)
    kept += tuple(pair.target for pair in doubted)
    return _Assigned(trusted, opened, doubted, unused, kept)


def _left_out(pair: Pair) -> str:
    return (
        f"{pair.source!r} agrees with {pair.target!r} in type and shape only and was left out; "
        f"hints={{{pair.source!r}: {pair.target!r}}} assigns it"
    )


def _is_constant(unit: SourceUnit) -> bool:
    """Whether a unit is a constant in the code of a TorchScript archive; a module has it in its own code."""
    return unit.name.split("/")[0] == CONSTANTS and all(tensor.shape == () for tensor in unit.leaves.values())
