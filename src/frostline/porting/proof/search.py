"""Assignments that are tried by running the module: all of them if they are few, else by a search with a proof.

A search goes from one assignment to a neighbour that comes nearer to the golden outputs. What it finds gives these
outputs to the same tolerance; and each single exchange is tried from there, which must change them.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.porting.interpreter.work import work_of
from frostline.porting.plan.port_plan import PortPlan, refuse_ambiguity
from frostline.porting.proof.held_ways import HeldWays
from frostline.porting.proof.outputs import (
    Golden,
    distance,
    further,
    nearest,
    outputs_of,
    tolerance_of,
)
from frostline.porting.proof.symmetry import unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from frostline.porting.proof.held_ways import Way

MOST_TRIALS = 1_000  # assignments that are all run
_MOST_RUNS = 4_000  # of a search
_FEWEST_RUNS = 24  # of a search, however large the network: as many as four layers have assignments
_MOST_WORK = 3e12  # multiplications of all runs, about a minute on two cores; ResNet-50 has 250 runs of three images
_PER_VALUE = 20  # what reading, checking and writing one number of the weights takes, in multiplications
_FEW = 120  # assignments of one group that a search runs in turn, as many as five layers have
_FURTHER = 2  # other inputs on which assignments must agree that all give the golden outputs
_GAIN = 1 - 1e-6  # what must be left of a distance for an exchange to count: less is rounding


@dataclass(frozen=True)
class Settled:
    """What became of the open groups of a plan.

    Attributes:
        plan: With nothing left open; None if no assignment gave the golden outputs.
        tried: How many assignments were run.
        error: The smallest error of all of them.
        golden: The golden outputs that it belongs to.
    """

    plan: PortPlan | None
    tried: int
    error: float
    golden: Golden


def num_runs(plan: PortPlan, model: nn.Module, goldens: Sequence[Golden]) -> int:
    """How many assignments may be run: fewer of a network that computes for long. Nothing is timed.

    Args:
        plan: With open groups.
        model: The module.
        goldens: What each run is compared with.
    """
    inputs = {id(golden.inputs): golden for golden in goldens}.values()
    run = sum(work_of(lambda golden=golden: outputs_of(model, golden.inputs, golden.at)) for golden in inputs)
    sizes = [tensor.numel() for group in plan.opened for (step, *_) in group.steps.values()
             for tensor in step.target.tensors.values()]  # fmt: skip
    written = 2 * _PER_VALUE * sum(sizes) // max(1, sum(len(group.steps) for group in plan.opened))
    return max(_FEWEST_RUNS, min(_MOST_RUNS, int(_MOST_WORK / (run + written + 1))))


def is_few(plan: PortPlan, most: int = MOST_TRIALS) -> bool:
    """Whether all assignments can be run, of which there may be `most`."""
    most, total = min(most, MOST_TRIALS), 1
    for group in plan.opened:
        total *= sum(1 for _ in itertools.islice(group.ways(), most + 1))
    return total <= most


def try_all(plan: PortPlan, model: nn.Module, goldens: Sequence[Golden]) -> Settled:
    """Run every assignment.

    Raises:
        AmbiguousPortError: If several give the golden outputs, and compute different things or differ in layers on
            which the outputs do not depend.
    """
    tolerance, best, tried = tolerance_of(model), (math.inf, goldens[0]), 0
    passing: list[tuple[Way, ...]] = []
    held = HeldWays(plan, model)
    with held.undone():
        for ways in itertools.product(*(group.ways() for group in plan.opened)):
            tried += 1
            held.put_all(ways)
            found = nearest(model, goldens)
            best = min(best, found, key=lambda one: one[0])
            if found[0] <= tolerance:
                passing.append(ways)
        hidden = _unseen(passing, held, model, best[1]) if len(passing) > 1 else ()
    if not passing:
        return Settled(None, tried, *best)
    if hidden is None or hidden:  # samples that show no difference settle nothing
        refuse_ambiguity(plan, was_run=True, unseen=hidden or ())
    note = f"{goldens[0].told} told {tried} assignments apart"
    if len(passing) > 1:
        note += f"; {len(passing)} of them compute the same on other inputs, too: equal branches that are exchanged"
    closed = _closed(plan, passing[0], goldens[0].told)
    return Settled(replace(closed, notes=(*plan.notes, note)), tried, *best)


def search(plan: PortPlan, model: nn.Module, goldens: Sequence[Golden], most: int = _MOST_RUNS) -> Settled:
    """Look for the assignment that gives the golden outputs, and try every single exchange from there.

    Args:
        plan: With open groups.
        model: The module; unchanged afterwards.
        goldens: What the source network gives.
        most: How many assignments may be run, as `num_runs` tells; and how many exchanges.

    Raises:
        AmbiguousPortError: If none is found, or an exchange gives the golden outputs and computes something else, or
            exchanges layers on which the outputs do not depend.
    """
    held = HeldWays(plan, model)
    with held.undone():
        walk = _Walk(plan, model, goldens, held, most)
        if walk.num_exchanges > most:
            _give_up(plan, f"{walk.num_exchanges} exchanges of two layers would have to be run, and", most)
        if not walk.found():
            if most < _MOST_RUNS:
                _give_up(plan, f"{walk.tried} assignments were run without reaching the outputs;", most)
            refuse_ambiguity(plan, was_run=True)
        error, golden = nearest(model, goldens)
        num_equal, num_exchanges = walk.exchanges(golden)
    told = f"{goldens[0].told}, found by search"
    note = (
        f"{goldens[0].told} told assignments apart, found by search: {walk.tried} were run, and {num_exchanges} single "
        f"exchanges from the one that was found" + (f"; {num_equal} of these compute the same" if num_equal else "")
    )
    closed = _closed(plan, held.ways, told)
    return Settled(replace(closed, notes=(*plan.notes, note)), walk.tried, error, golden)


def _give_up(plan: PortPlan, what: str, most: int) -> None:
    """Raises `AmbiguousPortError` for a search that would take too long."""
    over = f"{what} a network of this size is run {most} times at most"
    refuse_ambiguity(plan, was_run=True, over=over)


class _Walk:
    """A search that is at one assignment at a time, whose weights the module holds."""

    def __init__(
        self, plan: PortPlan, model: nn.Module, goldens: Sequence[Golden], held: HeldWays, most: int
    ) -> None:  # fmt: skip
        self._plan, self._model, self._goldens, self._held, self._most = plan, model, goldens, held, most
        self._groups, self._random = plan.opened, random.Random(0)
        self._choices = [list(itertools.islice(group.ways(), _FEW + 1)) for group in self._groups]
        self.tried = 0
        held.put_all([choices[0] for choices in self._choices])

    @property
    def num_exchanges(self) -> int:
        """How many assignments `exchanges` runs."""
        pairs = zip(self._groups, self._held.ways, strict=True)
        return sum(1 for group, way in pairs for _ in group.neighbours(way))

    def found(self) -> bool:
        """Whether the golden outputs were reached; the module holds the assignment that gives them."""
        tolerance = tolerance_of(self._model)
        best, at = self._descended(), list(self._held.ways)
        while nearest(self._model, self._goldens)[0] > tolerance:
            if self.tried >= self._most:
                return False
            self._held.put_all(at)
            self._shake()
            value = self._descended()
            if value < best:
                best, at = value, list(self._held.ways)
        return True

    def _descended(self) -> float:
        """The distance after exchanges that shorten it, until no more do."""
        value, is_better = distance(self._model, self._goldens), True
        while is_better and self.tried < self._most:
            is_better = False
            for index in range(len(self._groups)):
                before, best = self._held.ways[index], self._held.ways[index]
                for way in self._nearby(index):
                    self._held.put(index, way)
                    self.tried += 1
                    found = distance(self._model, self._goldens)
                    if found < value * _GAIN:
                        value, best = found, way
                self._held.put(index, best)
                is_better = is_better or best is not before
        return value

    def _nearby(self, index: int) -> list[Way]:
        choices = self._choices[index]
        way = self._held.ways[index]
        return choices if len(choices) <= _FEW else list(self._groups[index].neighbours(way))

    def _shake(self) -> None:
        """Some groups put into another order, so that the next descent ends elsewhere."""
        for index in range(len(self._groups)):
            if self._random.random() < 0.5:
                continue
            for _ in range(1 + len(self._held.ways[index]) // 3):
                nearby = self._nearby(index)
                if nearby:
                    self._held.put(index, self._random.choice(nearby))

    def exchanges(self, golden: Golden) -> tuple[int, int]:
        """Try every single exchange from here.

        Returns:
            How many of them compute the same, and how many there are.

        Raises:
            AmbiguousPortError: If one gives the golden outputs, and other outputs on other inputs.
        """
        tolerance, num_equal, count = tolerance_of(self._model), 0, 0
        for index, group in enumerate(self._groups):
            here = self._held.ways[index]
            for way in group.neighbours(here):
                self._held.put(index, way)
                count += 1
                if nearest(self._model, self._goldens)[0] <= tolerance:
                    num_equal += 1
                    ways = [[*self._held.ways[:index], one, *self._held.ways[index + 1 :]] for one in (way, here)]
                    hidden = _unseen(ways, self._held, self._model, golden)
                    if hidden is None or hidden:
                        refuse_ambiguity(self._plan, was_run=True, unseen=hidden or ())
                self._held.put(index, here)
        return num_equal, count


def _closed(plan: PortPlan, ways: Sequence[Way], reason: str) -> PortPlan:
    """The plan with one assignment of each group."""
    steps = tuple(
        step if group.is_pair else replace(step, reason=reason, margin=1.0)
        for group, way in zip(plan.opened, ways, strict=True)
        for step in way
    )
    return replace(plan, steps=(*plan.steps, *steps), opened=())


def _unseen(
    ways: Sequence[Sequence[Way]], held: HeldWays, model: nn.Module, golden: Golden
) -> tuple[str, ...] | None:  # fmt: skip
    """As `unseen`, of assignments that give the golden outputs."""
    inputs = [golden.inputs, *(further(golden.inputs, seed) for seed in range(_FURTHER))]
    steps = [{id(step): step.target for way in one for step in way} for one in ways]
    shared = set(steps[0]).intersection(*steps)
    targets = {target.name: target for one in steps for step, target in one.items() if step not in shared}
    holds = [lambda one=one: held.put_all(one) for one in ways]
    return unseen(model, holds, list(targets.values()), inputs)


def without_order(plan: PortPlan) -> PortPlan | None:
    """The plan with assignments in any order, if it has groups that are tried in the order of the file only."""
    if not any(group.before for group in plan.opened):
        return None
    return replace(plan, opened=tuple(replace(group, before={}) for group in plan.opened))
