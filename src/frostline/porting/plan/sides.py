"""Both sides of a port, the file and the module, in the forms in which their layers fit one another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from frostline.core.restore import evaluating
from frostline.porting.graphs import source_graph, target_graph
from frostline.porting.layouts import pointwise
from frostline.porting.layouts.choice import moves
from frostline.porting.plan import folded_norms, packed_layers
from frostline.porting.plan.norm_wrappers import unwrapped
from frostline.porting.plan.preparation import prepared
from frostline.porting.plan.quantised import without_integers
from frostline.porting.plan.tied import remove_ties
from frostline.porting.units.forms.attention import is_packed
from frostline.porting.units.forms.module_form import grouped, other_forms
from frostline.porting.units.unit import source_units, target_units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from frostline.porting.graphs.target_graph import Flow
    from frostline.porting.layouts.layout import Move
    from frostline.porting.readers.contract import Source
    from frostline.porting.units.unit import SourceUnit, TargetUnit


@dataclass(frozen=True)
class Sides:
    """The layers of a file and of a module.

    Attributes:
        units: Layers of the file, by name.
        targets: Layers of the module, by name.
        table: By layer of the file: the layers of the module that it fits, each with the moves of its tensors.
        flow: The flow of values in the module; None if no input could be run.
        failure: Why the module could not be run.
        dropped: Tensors of the file that are not assigned, and why.
        notes: What was decided on the way.
    """

    units: dict[str, SourceUnit]
    targets: dict[str, TargetUnit]
    table: dict[str, dict[str, tuple[Move, ...]]]
    flow: Flow | None
    failure: str
    dropped: dict[str, str]
    notes: tuple[str, ...]


def both_sides(source: Source, path: str, model: nn.Module, inputs: Any = None) -> Sides:
    """Bring both sides into forms that fit one another.

    Args:
        source: The content of the file.
        path: Path of the file, for error texts.
        model: The module; it is not changed.
        inputs: Inputs of the module, if the caller has some.
    """
    with evaluating(model):  # in training mode a spectral norm changes its vectors on each access
        targets = target_units(model)
        if is_packed(source_units(source), targets):
            targets = target_units(model, is_packed=True)
    flow, failure = target_graph.followed(model, targets, inputs, source_graph.input_shapes(source))
    bare, of_norms = unwrapped(source_units(source), path)
    ready = prepared(bare, targets, source.layers)
    parts, identities = packed_layers.as_in_module(grouped(ready.units, targets), targets), ()
    if flow is not None and folded_norms.is_folded(parts, targets):
        targets, flow = folded_norms.joined(targets, flow, model)
        identities = (folded_norms.note(targets),)
    targets, shared = remove_ties(targets, parts)
    units, table = _fitting_forms(parts, targets)
    table = without_integers(path, units, targets, table)
    dropped = {**source.dropped, **of_norms, **ready.dropped}
    notes = (*source.notes, *ready.notes, *shared, *identities)
    by_source, by_target = {unit.name: unit for unit in units}, {unit.name: unit for unit in targets}
    return Sides(by_source, by_target, table, flow, failure, dropped, notes)


def _fitting_forms(
    units: Sequence[SourceUnit], targets: Sequence[TargetUnit]
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
    return found, table


def _fitting(
    unit: SourceUnit, targets: Sequence[TargetUnit],
    rule: Callable[[SourceUnit, TargetUnit], tuple[Move, ...] | None] = moves,
) -> dict[str, tuple[Move, ...]]:  # fmt: skip
    return {target.name: made for target in targets if (made := rule(unit, target)) is not None}
