"""The steps of a plan, and its groups of layers whose assignment or layout is not decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit


@dataclass(frozen=True)
class Step:
    """One layer of the file that is assigned to one layer of the module.

    Attributes:
        source: The unit of the file.
        target: The layer of the module.
        moves: One for each tensor of the layer.
        reason: The evidence for this pair.
        margin: As `Pair.margin`.
        doubt: Why the step may be wrong although there is no alternative; empty if it is not in doubt.
        order: The order of query, key and value in a packed matrix, if it is open; equal for all layers of a file.
        assumed: The setting of the source under which this step is right, if only a run can confirm it.
    """

    source: SourceUnit
    target: TargetUnit
    moves: tuple[Move, ...]
    reason: str
    margin: float
    doubt: str = ""
    order: str = ""
    assumed: str = ""


@dataclass(frozen=True)
class OpenGroup:
    """Layers of the file that fit several layers of the module, or one layer with several layouts.

    Attributes:
        sources: The units, in the order of the file.
        targets: The layers.
        why: Why the evidence does not decide.
        steps: By unit and layer: the possible steps of each pair that fits; several if the order of a flatten is open.
        before: By layer: the layers that must be assigned first, if the file numbers its units in order of creation.
        linked: The only possible assignments, if the layouts of several pairs depend on each other.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    why: str
    steps: Mapping[tuple[str, str], tuple[Step, ...]] = field(repr=False)
    before: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]], repr=False)
    linked: tuple[tuple[Step, ...], ...] = field(default=(), repr=False)

    @property
    def is_pair(self) -> bool:
        """Whether only the layout is open, not the partner."""
        return bool(self.linked) or (len(self.sources) == 1 and len(self.targets) == 1)

    def ways(self) -> Iterator[tuple[Step, ...]]:
        """Every assignment: one step for each unit."""
        yield from self.linked or self._from(0, frozenset(), ())

    def _from(self, at: int, used: frozenset[str], made: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
        if at == len(self.sources):
            yield made
            return
        if not all(self._free(source, used) for source in self.sources[at:]):
            return  # no layer is left for this unit: these choices lead to no assignment
        for target in self.targets:
            if target not in used and self.before.get(target, used) <= used:
                for step in self.steps.get((self.sources[at], target), ()):
                    yield from self._from(at + 1, used | {target}, (*made, step))

    def _free(self, source: str, used: frozenset[str]) -> bool:
        return any(target not in used and (source, target) in self.steps for target in self.targets)

    def neighbours(self, way: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
        """The assignments that differ by the exchange of two pairs, or by the layout of one pair."""
        if self.linked:
            yield from (other for other in self.linked if other is not way)
            return
        for at, step in enumerate(way):
            for other in self.steps[step.source.name, step.target.name]:
                if other is not step:
                    yield (*way[:at], other, *way[at + 1 :])
            for further in range(at + 1, len(way)):
                exchanged = self._exchanged(step, way[further])
                if exchanged is not None:
                    yield (*way[:at], exchanged[0], *way[at + 1 : further], exchanged[1], *way[further + 1 :])

    def _exchanged(self, one: Step, other: Step) -> tuple[Step, Step] | None:
        first = self.steps.get((one.source.name, other.target.name))
        second = self.steps.get((other.source.name, one.target.name))
        return (first[0], second[0]) if first and second else None
