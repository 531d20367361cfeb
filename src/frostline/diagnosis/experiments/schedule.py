"""The schedule of a race: at which steps runners are compared, how many run on, and in which order they start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from frostline.diagnosis.experiments.examination import Examination, Suspicion
    from frostline.diagnosis.experiments.runner import Runner

WATCHED = 6  # steps after a race is won, in which the rules are asked again; they belong to the training
FEWEST_STEPS = 10  # that prove anything
AHEAD = 1.5  # times its steps after which a runner must still be ahead, where the batches end before twice
_CROWDED = 3  # marks at which two may still run; then one
# Steps of all runners over those that are trained in all; the first is let in in any case.
_EXTRA_OF_STUCK, _EXTRA_OF_ISSUES, _EXTRA, _EXTRA_OF_DOUBTS = 1.6, 0.8, 0.55, 0.35
_LATER_TIMES, _LATER = 2, 1 / 3  # of the steps of a winner, and of all: where it is compared with a lower rate
_SPIKES = frozenset({"FL102", "FL103"})
_TOO_LARGE = frozenset({"FL102", "FL401", "FL502"})  # signs that steps are; others come of noise as well


@dataclass(frozen=True)
class Schedule:
    """Marks at which runners are compared; all steps are counted from the first batch of the training.

    Attributes:
        start: Steps that the patient has taken before the race.
        leg: Steps from one mark to the next.
        legs: How many.
        num_steps: Batches that there are.
    """

    start: int
    leg: int
    legs: int
    num_steps: int

    @property
    def marks(self) -> range:
        """Where runners are compared while the race is open; the first in any case."""
        last = min(self.start + self.legs * self.leg, max(self.start + self.leg, self.num_steps - WATCHED))
        return range(self.start + self.leg, last + 1, self.leg)

    @property
    def marks_of_stuck(self) -> range:
        """Where they are compared later, if the network still learns nothing."""
        return range(self.marks[-1] + self.leg, self.end + 1, self.leg)

    def later(self, steps: int) -> int | None:
        """The mark where a winner with so many steps is compared once more; None where too few are left after it."""
        mark = self.start + max(_LATER_TIMES * self.taken(steps), round(_LATER * (self.num_steps - self.start)))
        mark = self.start + -(-self.taken(mark) // self.leg) * self.leg
        return mark if mark + self.leg <= self.end else None

    @property
    def end(self) -> int:
        """The last mark to which the untreated network can be trained."""
        return self.start + max(1, (self.num_steps - WATCHED - self.start) // self.leg) * self.leg

    def taken(self, steps: int) -> int:
        """Steps since the start of the race."""
        return steps - self.start

    def num_marks(self, steps: int) -> int:
        """How often a runner with so many steps was compared."""
        return self.taken(steps) // self.leg

    def parts(self, after: int, mark: int) -> range:
        """The marks from the one after these steps to this one."""
        return range(after + self.leg, mark + 1, self.leg)

    def twice(self, steps: int) -> int:
        """The mark after twice the steps, or the last one."""
        return min(self.start + 2 * self.taken(steps), self.end)

    def half_as_many_again(self, steps: int) -> int:
        """The mark after half as many steps again; it may lie behind the last one."""
        return self.start + round(AHEAD * self.taken(steps)) // self.leg * self.leg

    def num_places(self, mark: int) -> int:
        """How many treated networks train on after this mark."""
        return 2 if mark <= self.start + _CROWDED * self.leg else 1

    def has_time(self, one: Runner) -> bool:
        """True if a treatment that is due need not be ahead yet: before it swings out, a network is faster."""
        return one.is_due and self.num_marks(one.steps) <= _CROWDED

    def has_room(self, suspicion: Suspicion, mark: int, runners: Iterable[Runner], seen: Examination) -> bool:
        """True if there are steps left for one more, brought to this mark, beside the untreated network."""
        is_sure = suspicion.is_issue or suspicion.is_clear
        share = _EXTRA_OF_ISSUES if is_sure else _EXTRA_OF_DOUBTS if seen.is_learning else _EXTRA
        share = _EXTRA_OF_STUCK if seen.is_stuck else share
        spent = sum(self.taken(one.steps) for one in runners)
        return not spent or spent + self.taken(mark) <= share * self.num_steps


def starting_order(seen: Examination, *, is_whole: bool) -> list[list[Suspicion]]:
    """What was wrong before the first step, then what came while training, which may have come of the steps.

    Spikes come before the steps that they make too large; of faster rates, the one that makes steps usual. Each entry
    is a line, tried as long as each of it is better than the last.

    Args:
        seen: The untreated network.
        is_whole: True if its loss is finite: steps that it has left out have done no harm then.
    """
    found = [one for one in seen.suspicions() if one.family != "nonfinite" or not is_whole]
    slower, faster = seen.rates(both=False)
    if seen.is_stuck:
        faster = seen.rates(both=True)[1]
    early, late = [[one] for one in found if not one.is_late], [[one] for one in found if one.is_late]
    spikes = [line for line in late if line[0].remedy.identity == "clip" and seen.codes & _SPIKES]
    others = [line for line in late if line not in spikes]
    due = [[one] for one in found if one.remedy.is_due]
    other_rates = [slower, *others, faster[-2:], faster[-3::-1]]
    if seen.is_stuck and not seen.codes & _TOO_LARGE:
        other_rates = [faster[-2:], slower, *others, faster[-3::-1]]
    both = [] if seen.is_learning and is_whole else with_rates(early, slower)
    return [*units_at_once(found), *due, *early, *spikes, *other_rates, *both]


def units_at_once(found: Sequence[Suspicion]) -> list[list[Suspicion]]:
    """Inputs and targets in another unit, where both are issues: steps that fit neither show no gain of one alone."""
    units = [one for one in found if one.family == "input_scale" and one.is_issue]
    return [[replace(units[0], partner=units[1])]] if len(units) == 2 else []


def with_rates(early: Sequence[Sequence[Suspicion]], slower: Sequence[Suspicion]) -> list[list[Suspicion]]:
    """The first issue that was there before the first step, together with lower rates: two faults hide each other."""
    first = next((line[0] for line in early if line[0].is_issue), None)
    return [[replace(first, partner=rate) for rate in slower]] if first is not None and slower else []
