"""The plan of a port: a plain value that says which source tensor goes where, how, and why; nothing is read for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from torch.nn.modules.conv import _ConvNd

from frostline.core.errors import AmbiguousPortError, DataError, LayerNotFound, PortError, nearest
from frostline.porting import flattening, folded, source_graph, target_graph
from frostline.porting.grouping import grouped, is_packed, other_forms
from frostline.porting.layouts.choice import moves
from frostline.porting.matching import Evidence, Open, Pair, match
from frostline.porting.target_graph import undisturbed
from frostline.porting.unfit import refuse_unfit
from frostline.porting.units import full_name, source_units, target_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from frostline.porting.layouts.layout import Move
    from frostline.porting.readers.contract import Source
    from frostline.porting.units import SourceUnit, TargetUnit

_SHOWN = 6


@dataclass(frozen=True)
class Step:
    """One layer of the file on its way into one layer of the module.

    Attributes:
        source: The unit.
        target: The layer.
        moves: One for each tensor of the layer.
        reason: Why these two belong together.
        margin: As of `Pair`.
    """

    source: SourceUnit
    target: TargetUnit
    moves: tuple[Move, ...]
    reason: str
    margin: float


@dataclass(frozen=True)
class PortPlan:
    """Which tensor goes where.

    Attributes:
        path: Of the file.
        steps: What is told.
        opened: What is not.
        choices: Steps that may be done in several ways, all of them: the order of a flatten that cannot be told.
        unused: Units of the file that go nowhere; only where a partial port was asked for.
        kept: Layers of the module that keep their values; likewise.
        dropped: As of `Source`.
        notes: As of `Source`, and what was decided while planning.
        options: The steps that the open groups choose from.
    """

    path: str
    steps: tuple[Step, ...]
    opened: tuple[Open, ...] = ()
    choices: tuple[tuple[Step, ...], ...] = ()
    unused: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    options: Mapping[tuple[str, str], Step] = field(default_factory=dict[tuple[str, str], Step], repr=False)

    def possible(self, source: str, target: str) -> Step:
        """The step of a unit and a layer that are left open."""
        return self.options[source, target]

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
    inputs: Any = None,
) -> PortPlan:  # fmt: skip
    """The plan for a file and a module.

    Args:
        source: The content of the file.
        path: Of the file, for messages.
        model: The module; it is not changed.
        hints: Names of units of the file and the layers they become, where these are known.
        partial: Whether layers may be left out on both sides.
        inputs: As the module takes them, if they are known.

    Raises:
        PortError: If layers have no partner.
        LayerNotFound: If a hint names what is not there.
    """
    with undisturbed(model):  # a spectral norm in training moves its vectors whenever its weight is looked at
        targets = target_units(model)
        if is_packed(source_units(source), targets):
            targets = target_units(model, is_packed=True)
    seen = target_graph.flow(model, targets, inputs, source_graph.input_shapes(source))
    parts = grouped(source_units(source), targets)
    if seen is not None and folded.is_folded(parts, targets):
        targets, seen = folded.joined(targets, seen, model)
    units, table = _candidates(parts, targets)
    by_source, by_target = {unit.name: unit for unit in units}, {unit.name: unit for unit in targets}
    hints = _checked(hints if hints is not None else {}, by_source, by_target, table)
    candidates = {name: set(others) for name, others in table.items() if others}
    unused = tuple(name for name in by_source if name not in candidates)
    kept = tuple(name for name in by_target if not any(name in others for others in candidates.values()))
    if not partial and (unused or kept):
        lost = [by_source[name] for name in unused], [by_target[name] for name in kept]
        refuse_unfit(path, lost[0])
        raise _without_partner(path, *lost, units, targets)
    edges = seen.edges if seen is not None else None
    has_maps = any(isinstance(unit.module, _ConvNd) for unit in targets)
    order = "layers" if source.framework == "keras" and source.order == "numbers" else source.order
    evidence = Evidence(model, source_graph.flow(source, units), edges, order, hints)
    pairs, opened = match(candidates, list(by_source), list(by_target), evidence)
    if not partial:
        _check_counts(path, opened)

    def ways_of(pair: Pair) -> tuple[Step, ...]:
        step = _step(pair, by_source, by_target, table)
        return flattening.ways(step, seen, source.framework, has_maps=has_maps)

    ways = [ways_of(pair) for pair in pairs]
    steps = tuple(one[0] for one in ways if len(one) == 1)
    choices = tuple(one for one in ways if len(one) > 1)
    options = {
        (name, other): ways_of(Pair(name, other, one.why, 0.0))[0]
        for one in opened
        for name in one.sources
        for other in one.targets
        if other in table[name]
    }
    return PortPlan(path, steps, opened, choices, unused, kept, source.dropped, source.notes, options)


def _candidates(
    units: Sequence[SourceUnit], targets: Sequence[TargetUnit]
) -> tuple[list[SourceUnit], dict[str, dict[str, tuple[Move, ...]]]]:
    """The units in the form in which they fit layers, and for each the layers that it fits."""
    found: list[SourceUnit] = []
    table: dict[str, dict[str, tuple[Move, ...]]] = {}
    for unit in units:
        forms = ((form, [_fitting(one, targets) for one in form]) for form in chain([[unit]], other_forms(unit)))
        form, fits = next((row for row in forms if all(row[1])), ([unit], [{}]))  # a stack of 1,024 is tried last
        found += form
        table.update(zip((one.name for one in form), fits, strict=True))
    return found, table


def _fitting(unit: SourceUnit, targets: Sequence[TargetUnit]) -> dict[str, tuple[Move, ...]]:
    return {target.name: made for target in targets if (made := moves(unit, target)) is not None}


def refuse_ambiguity(plan: PortPlan) -> None:
    """Refuse a plan that is not told to its end.

    Raises:
        AmbiguousPortError: It lists what fits what as well.
    """
    if not plan.opened and plan.choices:
        layer = plan.choices[0][0].target.name
        raise AmbiguousPortError(
            what=f"The order in which the values before {layer!r} are flattened cannot be told.",
            where=f"{plan.path}: {plan.choices[0][0].source}",
            received="a module that could not be run on an example, or a map of which several axes may be the channels",
            do="pass outputs of the source network, golden=(inputs, outputs), which settle it.",
        )  # fmt: skip
    if not plan.opened:
        return
    first = plan.opened[0]
    alternatives = tuple(
        dict(zip(one.sources, order, strict=False))
        for one in plan.opened
        for order in (one.targets, (*one.targets[1:], one.targets[0]))
    )
    raise AmbiguousPortError(
        what=f"{len(plan.opened)} groups of layers of the file fit the module in more than one way.",
        where=f"{plan.path}: {_listed(first.sources)}",
        received=f"layers that fit as well: {_listed(first.targets)}; {first.why}",
        do=f"say which is which: hints={{{first.sources[0]!r}: {first.targets[0]!r}, ...}}; or pass outputs of the "
        "source network, golden=(inputs, outputs), which settle it.",
        alternatives=alternatives,
    )


def _step(
    pair: Pair, sources: Mapping[str, SourceUnit], targets: Mapping[str, TargetUnit],
    table: Mapping[str, Mapping[str, tuple[Move, ...]]],
) -> Step:  # fmt: skip
    return Step(sources[pair.source], targets[pair.target], table[pair.source][pair.target], pair.reason, pair.margin)


def _checked(
    hints: Any, sources: Mapping[str, SourceUnit], targets: Mapping[str, TargetUnit],
    table: Mapping[str, Mapping[str, tuple[Move, ...]]],
) -> dict[str, str]:  # fmt: skip
    """Hints that name layers which fit, each once."""
    if not isinstance(hints, dict) or len(set(map(str, hints.values()))) < len(cast("dict[Any, Any]", hints)):
        raise DataError(
            what="Hints are a mapping from layers of the file to layers of the module, each named once.",
            where="port(hints=...)", received=repr(hints)[:80], do='pass hints={"dense_1": "head"}, for example.',
        )  # fmt: skip
    found = {str(name): str(other) for name, other in cast("dict[Any, Any]", hints).items()}
    for name, other in found.items():
        for asked, known, side in ((name, sources, "file"), (other, targets, "module")):
            if asked not in known:
                raise LayerNotFound(
                    what=f"The {side} has no layer with weights named {asked!r}.", where="port(hints=...)",
                    received=repr(asked), do=f"use one of {nearest(asked, known)}.",
                )  # fmt: skip
        if other not in table[name]:
            raise PortError(
                what="A hint pairs layers that do not fit.", where="port(hints=...)",
                received=f"{sources[name]}, and {targets[other]}",
                do=f"pair {name!r} with one of {', '.join(map(repr, table[name])) or 'no layer: leave the hint out'}.",
            )  # fmt: skip
    return found


def _check_counts(path: str, opened: Sequence[Open]) -> None:
    for one in opened:
        if len(one.sources) != len(one.targets):
            raise PortError(
                what="The file and the module have different numbers of layers of one type and shape.", where=path,
                received=f"{len(one.sources)} in the file ({_listed(one.sources)}), {len(one.targets)} in the module "
                f"({_listed(one.targets)})",
                do="build the module as the network of the file; or port what both have: partial=True with hints.",
            )  # fmt: skip


def _without_partner(
    path: str, unused: Sequence[SourceUnit], kept: Sequence[TargetUnit], units: Sequence[SourceUnit],
    targets: Sequence[TargetUnit],
) -> PortError:  # fmt: skip
    parts: list[str] = []
    if unused:
        parts.append(f"of the file {_listed(list(map(str, unused)))}")
    if kept:
        parts.append(f"of the module {_listed(list(map(str, kept)))}")
    return PortError(
        what="Some layers have no partner of their type and shape on the other side.", where=path,
        received=f"{len(unused)} of {len(units)} layers of the file, {len(kept)} of {len(targets)} of the module: "
        + "; ".join(parts),
        do="build the module as the network of the file; or leave these out, such as a head of other classes: "
        "partial=True.",
    )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
