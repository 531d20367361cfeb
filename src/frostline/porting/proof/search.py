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

from frostline.porting.plan.port_plan import SEVERAL, PortPlan, refuse_ambiguity
from frostline.porting.proof.equal_assignments import are_same, probed
from frostline.porting.proof.module_outputs import (
    Golden,
    distance,
    further,
    nearest,
    tolerance_of,
)
from frostline.porting.proof.trial_assignment import TrialAssignment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from frostline.porting.proof.trial_assignment import Way

MOST_TRIALS = 1_000  # assignments that are all run
_MOST_RUNS = 4_000  # of a search
_FEW = 120  # assignments of one group that a search runs in turn, as many as five layers have
_NOT_FOUND = (
    "compare the settings of the module, such as epsilon and activations: of {} assignments that were run, none gives "
    "the outputs. If the settings are right, pair the layers of one block with `hints`: each pair shortens the search."
)
_FURTHER = 2  # other inputs on which assignments must agree that all give the golden outputs
_GAIN = 1 - 1e-6  # what must be left of a distance for an exchange to count: less is rounding


@dataclass(frozen=True)
class SearchResult:
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


def is_few(plan: PortPlan) -> bool:
    """Whether all assignments can be run."""
    total = 1
    for group in plan.opened:
        total *= sum(1 for _ in itertools.islice(group.ways(), MOST_TRIALS + 1))
    return total <= MOST_TRIALS


def try_all(plan: PortPlan, model: nn.Module, goldens: Sequence[Golden]) -> SearchResult:
    """Run every assignment.

    Raises:
        AmbiguousPortError: If several give the golden outputs and compute different things.
    """
    tolerance, best, tried = tolerance_of(model), (math.inf, goldens[0]), 0
    passing: list[tuple[Way, ...]] = []
    trial = TrialAssignment(plan, model)
    with trial.undone():
        for ways in itertools.product(*(group.ways() for group in plan.opened)):
            tried += 1
            trial.put_all(ways)
            found = nearest(model, goldens)
            best = min(best, found, key=lambda one: one[0])
            if found[0] <= tolerance:
                passing.append(ways)
        is_one = len(passing) <= 1 or _are_equal(passing, trial, model, best[1])
    if not passing:
        return SearchResult(None, tried, *best)
    if not is_one:
        refuse_ambiguity(plan, SEVERAL)  # samples that show no difference settle nothing
    note = f"{goldens[0].reason} told {tried} assignments apart"
    if len(passing) > 1:
        note += f"; {len(passing)} of them compute the same on other inputs, too: equal branches that are exchanged"
    closed = _closed(plan, passing[0], goldens[0].reason)
    return SearchResult(replace(closed, notes=(*plan.notes, note)), tried, *best)


def search(plan: PortPlan, model: nn.Module, goldens: Sequence[Golden]) -> SearchResult:
    """Look for the assignment that gives the golden outputs, and try every single exchange from there.

    Raises:
        AmbiguousPortError: If none is found, or an exchange gives the golden outputs and computes something else.
    """
    trial = TrialAssignment(plan, model)
    with trial.undone():
        walk = _Walk(plan, model, goldens, trial)
        if not walk.found():
            refuse_ambiguity(plan, _NOT_FOUND.format(walk.tried))
        error, golden = nearest(model, goldens)
        num_equal, num_exchanges = walk.exchanges(golden)
    reason = f"{goldens[0].reason}, found by search"
    note = (
        f"{goldens[0].reason} told assignments apart, found by search: {walk.tried} were run, and {num_exchanges} "
        f"single exchanges from the one that was found"
        + (f"; {num_equal} of these compute the same" if num_equal else "")
    )
    closed = _closed(plan, trial.ways, reason)
    return SearchResult(replace(closed, notes=(*plan.notes, note)), walk.tried, error, golden)


class _Walk:
    """A search that is at one assignment at a time, whose weights the module holds."""

    def __init__(self, plan: PortPlan, model: nn.Module, goldens: Sequence[Golden], trial: TrialAssignment) -> None:
        self._plan, self._model, self._goldens, self._trial = plan, model, goldens, trial
        self._groups, self._random = plan.opened, random.Random(0)
        self._choices = [list(itertools.islice(group.ways(), _FEW + 1)) for group in self._groups]
        self.tried = 0
        trial.put_all([choices[0] for choices in self._choices])

    def found(self) -> bool:
        """Whether the golden outputs were reached; the module holds the assignment that gives them."""
        tolerance = tolerance_of(self._model)
        best, at = self._descended(), list(self._trial.ways)
        while nearest(self._model, self._goldens)[0] > tolerance:
            if self.tried >= _MOST_RUNS:
                return False
            self._trial.put_all(at)
            self._perturb()
            value = self._descended()
            if value < best:
                best, at = value, list(self._trial.ways)
        return True

    def _descended(self) -> float:
        """The distance after exchanges that shorten it, until no more do."""
        value, is_better = distance(self._model, self._goldens), True
        while is_better and self.tried < _MOST_RUNS:
            is_better = False
            for index in range(len(self._groups)):
                before, best = self._trial.ways[index], self._trial.ways[index]
                for way in self._nearby(index):
                    self._trial.put(index, way)
                    self.tried += 1
                    found = distance(self._model, self._goldens)
                    if found < value * _GAIN:
                        value, best = found, way
                self._trial.put(index, best)
                is_better = is_better or best is not before
        return value

    def _nearby(self, index: int) -> list[Way]:
        choices = self._choices[index]
        way = self._trial.ways[index]
        return choices if len(choices) <= _FEW else list(self._groups[index].neighbours(way))

    def _perturb(self) -> None:
        """Some groups put into another order, so that the next descent ends elsewhere."""
        for index in range(len(self._groups)):
            if self._random.random() < 0.5:
                continue
            for _ in range(1 + len(self._trial.ways[index]) // 3):
                nearby = self._nearby(index)
                if nearby:
                    self._trial.put(index, self._random.choice(nearby))

    def exchanges(self, golden: Golden) -> tuple[int, int]:
        """Try every single exchange from here.

        Returns:
            How many of them compute the same, and how many there are.

        Raises:
            AmbiguousPortError: If one gives the golden outputs, and other outputs on other inputs.
        """
        tolerance, num_equal, count = tolerance_of(self._model), 0, 0
        inputs = [golden.inputs, *(further(golden.inputs, seed) for seed in range(_FURTHER))]
        wanted: dict[int, list[Tensor] | None] = {}
        for index, group in enumerate(self._groups):
            here = self._trial.ways[index]
            for way in group.neighbours(here):
                self._trial.put(index, way)
                count += 1
                if nearest(self._model, self._goldens)[0] <= tolerance:
                    num_equal += 1
                    targets = [step.target for step in way]
                    found = probed(self._model, targets, inputs)
                    self._trial.put(index, here)
                    if index not in wanted:
                        wanted[index] = probed(self._model, targets, inputs)
                    if not are_same(found, wanted[index]):
                        refuse_ambiguity(self._plan, SEVERAL)
                self._trial.put(index, here)
        return num_equal, count


def _closed(plan: PortPlan, ways: Sequence[Way], reason: str) -> PortPlan:
    """The plan with one assignment of each group."""
    steps = tuple(
        step if group.is_pair else replace(step, reason=reason, margin=1.0)
        for group, way in zip(plan.opened, ways, strict=True)
        for step in way
    )
    return replace(plan, steps=(*plan.steps, *steps), opened=())


def _are_equal(ways: Sequence[tuple[Way, ...]], trial: TrialAssignment, model: nn.Module, golden: Golden) -> bool:
    """Whether assignments compute the same by symmetry, as where twins are summed."""
    inputs = [golden.inputs, *(further(golden.inputs, seed) for seed in range(_FURTHER))]
    steps = [{(step.source.name, step.target.name): step.target for way in one for step in way} for one in ways]
    shared = set(steps[0]).intersection(*steps)
    open_targets = [target for one in steps for pair, target in one.items() if pair not in shared]
    given: list[list[Tensor] | None] = []
    for one in ways:
        trial.put_all(one)
        given.append(probed(model, open_targets, inputs))
    return all(are_same(given[0], one) for one in given)


def without_order(plan: PortPlan) -> PortPlan | None:
    """The plan with assignments in any order, if it has groups that are tried in the order of the file only."""
    if not any(group.before for group in plan.opened):
        return None
    return replace(plan, opened=tuple(replace(group, before={}) for group in plan.opened))
