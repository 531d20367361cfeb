"""The steps of a plan, and the groups of layers of which it is open which step belongs to which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit


@dataclass(frozen=True)
class Step:
    """One layer of the file on its way into one layer of the module.

    Attributes:
        source: The unit.
        target: The layer.
        moves: One for each tensor of the layer.
        reason: Why these two belong together.
        margin: As of `Pair`.
        doubt: Why it may be wrong although no other way can be made; empty if it is not in doubt.
        order: Of query, key and value in a packed matrix, if it is open; all layers of a file have the same.
        assumed: The setting of the source that makes this the usual way, if only a run can tell it from others.
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
    """Layers of the file that fit several layers of the module, or one in several ways.

    Attributes:
        sources: The units, in the order of the file.
        targets: The layers.
        why: What was asked, and what it answered.
        steps: By unit and layer, for each pair that fits, its ways: more than one if the order of a flatten is open.
        linked: The only assignments, if the ways of several pairs depend on each other.
        before: Layers that a layer can only come after, if the file counts its units in the order of their making.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    why: str
    steps: Mapping[tuple[str, str], tuple[Step, ...]] = field(repr=False)
    before: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]], repr=False)
    linked: tuple[tuple[Step, ...], ...] = field(default=(), repr=False)

    @property
    def is_pair(self) -> bool:
        """Whether only the way is open, not the partner."""
        return bool(self.linked) or (len(self.sources) == 1 and len(self.targets) == 1)

    def ways(self) -> Iterator[tuple[Step, ...]]:
        """Every assignment: one step for each unit."""
        yield from self.linked or self._from(0, frozenset(), ())

    def _from(self, at: int, used: frozenset[str], made: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
        if at == len(self.sources):
            yield made
            return
        if not all(self._free(source, used) for source in self.sources[at:]):
            return  # a unit that has no layer left: nothing that begins so is an assignment
        for target in self.targets:
            if target not in used and self.before.get(target, used) <= used:
                for step in self.steps.get((self.sources[at], target), ()):
                    yield from self._from(at + 1, used | {target}, (*made, step))

    def _free(self, source: str, used: frozenset[str]) -> bool:
        return any(target not in used and (source, target) in self.steps for target in self.targets)

    def neighbours(self, way: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
        """The assignments that differ from one by a single exchange, or by another way of a single pair."""
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
