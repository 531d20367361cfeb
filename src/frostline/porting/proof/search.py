"""The assignment that reproduces golden outputs, found by running the module: all assignments, or a local search.

The search moves from one assignment to a neighbour whose outputs are closer to the golden outputs. Its result has to
reproduce them within the same tolerance. Then every single exchange is run from there, and has to change the outputs.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.porting.interpreter.work import work_of
from frostline.porting.plan.ambiguity import SEVERAL, refuse_ambiguity
from frostline.porting.proof.equal_assignments import unseen
from frostline.porting.proof.module_outputs import (
    Golden,
    distance,
    further,
    nearest,
    outputs_of,
    tolerance_of,
)
from frostline.porting.proof.trial_assignment import TrialAssignment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.proof.trial_assignment import Way

MOST_TRIALS = 1_000  # if there are more assignments, a search runs some of them
_MOST_RUNS = 4_000  # assignments that a search runs
_FEWEST_RUNS = 24  # assignments that a search may run, however large the network: those of four layers
_MOST_WORK = 3e12  # multiplications of all runs, about a minute on two cores; ResNet-50 has 250 runs of three images
_PER_VALUE = 20  # multiplications that take as long as reading, checking and writing one number of the weights
_FEW = 120  # permutations of five layers: a search runs all assignments of a group that has no more
_FURTHER = 2  # further inputs, on which assignments have to agree if several reproduce the golden outputs
_GAIN = 1 - 1e-6  # an exchange has to reduce the distance to less than this share: a smaller gain is rounding
_NOT_FOUND = (
    "compare the settings of the module, such as epsilon and activations: of {} assignments that were run, none "
    "reproduces the outputs. If the settings are right, pair the layers of one block with `hints`: each pair shortens "
    "the search."
)


@dataclass(frozen=True)
class SearchResult:
    """The result of running assignments of a plan's open groups.

    Attributes:
        plan: The plan without open groups; None if no assignment reproduced the golden outputs.
        tried: The number of assignments that were run.
        error: The smallest error of all of them.
        golden: The golden outputs that this error belongs to.
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


def try_all(plan: PortPlan, model: nn.Module, goldens: Sequence[Golden]) -> SearchResult:
    """Run every assignment.

    Raises:
        AmbiguousPortError: If several give the golden outputs, and compute different things or differ in layers on
            which the outputs do not depend.
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
        hidden = _unseen(passing, trial, model, best[1]) if len(passing) > 1 else ()
    if not passing:
        return SearchResult(None, tried, *best)
    if hidden is None or hidden:  # samples that show no difference settle nothing
        refuse_ambiguity(plan, SEVERAL, unseen=hidden or ())
    note = f"{goldens[0].reason} distinguished {tried} assignments"
    if len(passing) > 1:
        note += f"; {len(passing)} of them compute the same on other inputs too: they exchange equal branches"
    closed = _closed(plan, passing[0], goldens[0].reason)
    return SearchResult(replace(closed, notes=(*plan.notes, note)), tried, *best)


def search(plan: PortPlan, model: nn.Module, goldens: Sequence[Golden], most: int = _MOST_RUNS) -> SearchResult:
    """Search for the assignment that reproduces the golden outputs, then run every single exchange from there.

    Args:
        plan: With open groups.
        model: The module; unchanged afterwards.
        goldens: What the source network gives.
        most: The largest number of assignments that are run, as `num_runs` returns it, and of exchanges.

    Raises:
        AmbiguousPortError: If none is found, or an exchange gives the golden outputs and computes something else, or
            exchanges layers on which the outputs do not depend.
    """
    trial = TrialAssignment(plan, model)
    with trial.undone():
        walk = _Walk(plan, model, goldens, trial, most)
        if walk.num_exchanges > most:
            _give_up(plan, f"{walk.num_exchanges} exchanges of two layers would have to be run, and", most)
        if not walk.found():
            if most < _MOST_RUNS:
                _give_up(plan, f"{walk.tried} assignments were run without reaching the outputs;", most)
            refuse_ambiguity(plan, _NOT_FOUND.format(walk.tried))
        error, golden = nearest(model, goldens)
        num_equal, num_exchanges = walk.exchanges(golden)
    reason = f"{goldens[0].reason}, found by search"
    note = (
        f"{goldens[0].reason} decided by a search: {walk.tried} assignments were run, and {num_exchanges} single "
        f"exchanges from the one that was found" + (f"; {num_equal} of these compute the same" if num_equal else "")
    )
    closed = _closed(plan, trial.ways, reason)
    return SearchResult(replace(closed, notes=(*plan.notes, note)), walk.tried, error, golden)


def _give_up(plan: PortPlan, what: str, most: int) -> None:
    """Raises `AmbiguousPortError` for a search that would take too long."""
    over = f"{what} a network of this size is run {most} times at most"
    refuse_ambiguity(plan, over=over)


class _Walk:
    """A local search; the weights of its current assignment are in the module."""

    def __init__(
        self, plan: PortPlan, model: nn.Module, goldens: Sequence[Golden], trial: TrialAssignment, most: int
    ) -> None:  # fmt: skip
        self._plan, self._model, self._goldens, self._trial, self._most = plan, model, goldens, trial, most
        self._groups, self._random = plan.opened, random.Random(0)
        self._choices = [list(itertools.islice(group.ways(), _FEW + 1)) for group in self._groups]
        self.tried = 0
        trial.put_all([choices[0] for choices in self._choices])

    @property
    def num_exchanges(self) -> int:
        """How many assignments `exchanges` runs."""
        pairs = zip(self._groups, self._trial.ways, strict=True)
        return sum(1 for group, way in pairs for _ in group.neighbours(way))

    def found(self) -> bool:
        """Whether an assignment reproduces the golden outputs; the module has its weights then."""
        tolerance = tolerance_of(self._model)
        best, at = self._descended(), list(self._trial.ways)
        while nearest(self._model, self._goldens)[0] > tolerance:
            if self.tried >= self._most:
                return False
            self._trial.put_all(at)
            self._perturb()
            value = self._descended()
            if value < best:
                best, at = value, list(self._trial.ways)
        return True

    def _descended(self) -> float:
        """The distance after exchanges that reduce it, until no exchange does."""
        value, is_better = distance(self._model, self._goldens), True
        while is_better and self.tried < self._most:
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
        """Apply random exchanges to some groups, so that the next descent ends at another assignment."""
        for index in range(len(self._groups)):
            if self._random.random() < 0.5:
                continue
            for _ in range(1 + len(self._trial.ways[index]) // 3):
                nearby = self._nearby(index)
                if nearby:
                    self._trial.put(index, self._random.choice(nearby))

    def exchanges(self, golden: Golden) -> tuple[int, int]:
        """Run every single exchange from the current assignment.

        Returns:
            The number of exchanges that compute the same, and the number of all exchanges.

        Raises:
            AmbiguousPortError: If an exchange reproduces the golden outputs, and differs on other inputs.
        """
        tolerance, num_equal, count = tolerance_of(self._model), 0, 0
        for index, group in enumerate(self._groups):
            here = self._trial.ways[index]
            for way in group.neighbours(here):
                self._trial.put(index, way)
                count += 1
                if nearest(self._model, self._goldens)[0] <= tolerance:
                    num_equal += 1
                    ways = [[*self._trial.ways[:index], one, *self._trial.ways[index + 1 :]] for one in (way, here)]
                    hidden = _unseen(ways, self._trial, self._model, golden)
                    if hidden is None or hidden:
                        refuse_ambiguity(self._plan, SEVERAL, unseen=hidden or ())
                self._trial.put(index, here)
        return num_equal, count


def _closed(plan: PortPlan, ways: Sequence[Way], reason: str) -> PortPlan:
    """The plan with one assignment for each group."""
    steps = tuple(
        step if group.is_pair else replace(step, reason=reason, margin=1.0)
        for group, way in zip(plan.opened, ways, strict=True)
        for step in way
    )
    return replace(plan, steps=(*plan.steps, *steps), opened=())


def _unseen(
    ways: Sequence[Sequence[Way]], trial: TrialAssignment, model: nn.Module, golden: Golden
) -> tuple[str, ...] | None:  # fmt: skip
    """As `unseen`, of assignments that give the golden outputs."""
    inputs = [golden.inputs, *(further(golden.inputs, seed) for seed in range(_FURTHER))]
    steps = [{id(step): step.target for way in one for step in way} for one in ways]
    shared = set(steps[0]).intersection(*steps)
    targets = {target.name: target for one in steps for step, target in one.items() if step not in shared}
    holds = [lambda one=one: trial.put_all(one) for one in ways]
    return unseen(model, holds, list(targets.values()), inputs)


def without_order(plan: PortPlan) -> PortPlan | None:
    """The plan with assignments in any order; None if no group was restricted to the order of the file."""
    if not any(group.before for group in plan.opened):
        return None
    return replace(plan, opened=tuple(replace(group, before={}) for group in plan.opened))
