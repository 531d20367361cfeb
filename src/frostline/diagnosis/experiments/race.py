"""A race: one network without treatment, others with one each, on the same batches with the same noise.

All start from the same snapshot and stop at the same marks (`schedule.py`), where they are compared on held-out samples
(`race_verdict.py`). A runner is trained when it is needed and never twice, so what wins has lost nothing and goes on
from where it stands.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from frostline.diagnosis.experiments.examination import CANNOT
from frostline.diagnosis.experiments.learning_rates import next_lower
from frostline.diagnosis.experiments.race_report import (
    cannot_be_done,
    has_issues,
    is_behind_another,
    is_no_better,
    what_lacks,
)
from frostline.diagnosis.experiments.race_verdict import RaceVerdict
from frostline.diagnosis.experiments.runner import Runner, loss_of, watched
from frostline.diagnosis.experiments.schedule import WATCHED, Schedule, starting_order
from frostline.diagnosis.experiments.score import score
from frostline.diagnosis.experiments.trial import train
from frostline.diagnosis.experiments.untreated import Untreated
from frostline.diagnosis.experiments.verdict import is_better_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.examination import Examination, Suspicion
    from frostline.diagnosis.experiments.trial import Patient

_MOST_LOWER = 2  # times that a third of a rate that has won is tried


class Race:
    """Trains one network without treatment, and with those that the evidence suggests.

    Args:
        patient: As it came; runners start from copies of it.
        data: What all train on, in order.
        judged: What they are compared by.
        loss_fn: callable(output, target) -> scalar.
        start: Steps that the patient has taken, of these batches.
        leg: Steps from one mark to the next.
        legs: How many.
        kept: What it has been treated with already.

    Attributes:
        schedule: The marks.
        untreated: The network without treatment.
        runners: With one each, in the order in which they entered.
    """

    def __init__(
        self, patient: Patient, data: Sequence[Batch], judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor],
        *, start: int, leg: int, legs: int, kept: Sequence[Suspicion] = (),
    ) -> None:  # fmt: skip
        self._patient, self._data, self._judged, self._loss_fn = patient, data, judged, loss_fn
        self._families = {one.family for one in kept}
        self._entered = {part.identity for one in kept for part in one.parts}
        self.schedule = Schedule(start, leg, legs, len(data))
        self.untreated = Untreated(patient, data, judged, loss_fn, self.schedule, self._families)
        self.runners: list[Runner] = []
        self._verdict = RaceVerdict(self.untreated, self.schedule, self.runners)

    @property
    def seen(self) -> Examination:
        """What was seen of the untreated network."""
        return self.untreated.seen

    def run(self) -> Runner:
        """The first that wins; the one without treatment if none does, unless it broke down."""
        base = self.untreated.runner
        with self.untreated:
            winner = self._run() or (base if self.untreated.is_whole else self._survivor())
            winner = self._with_lower_rate(winner)
        better = winner.suspicion.name if winner.suspicion is not None else ""
        for one in self._running():
            if one is not winner:
                lacking = what_lacks(one, base, self._verdict, self.schedule)
                self._out(one, f"{better} is better" if better else lacking)
        return winner

    def forget(self, best: Runner) -> None:
        """Let go of all copies but that of the best."""
        self.untreated.forget()
        for one in (self.untreated.runner, *self.runners):
            if one is not best:
                one.patient = best.patient
        self._patient = best.patient

    def _run(self) -> Runner | None:
        for mark in self.schedule.marks:
            self.untreated.bring(mark)
            if self.seen.certain_cause is not None:
                return None  # a line of the loop, the data or the model is wrong: no treatment corrects that
            winner = self._bring_all(mark) or self._enter(mark)
            if winner is not None:
                return winner
            is_settled = self.seen.is_learning and mark != self.schedule.marks[0]
            if is_settled and not self._running():
                return None
        for mark in self.schedule.marks_of_stuck:  # it has nothing to lose, and what is faster may need as many
            if not self.seen.is_stuck or not self._running():
                break
            self.untreated.bring(mark)
            winner = self._bring_all(mark)
            if winner is not None:
                return winner
        leading = (one for one in self._running() if self._verdict.is_ahead_at_last(one) and self._is_healthy(one))
        return next(leading, None)

    def _survivor(self) -> Runner:
        """Where the untreated network broke down and no treatment won: the best of the others, or its start."""
        for one in self._running():
            if math.isfinite(one.loss) and self._is_healthy(one):
                return one
        return Runner(self._patient.copy(), steps=self.schedule.start)

    def _running(self) -> list[Runner]:
        """The runners that are in the race, the best first."""
        return sorted((one for one in self.runners if not one.failure), key=lambda one: one.loss)

    def _bring_all(self, mark: int) -> Runner | None:
        """Train all to the mark; those that fall behind are out."""
        for one in sorted(self._running(), key=lambda one: not one.is_due):
            if self._bring(one, mark):
                return one
        running = self._running()
        for one in running[self.schedule.num_places(mark) :]:
            if not math.isfinite(running[0].loss):
                break
            self._out(one, is_behind_another(self.schedule.taken(mark)))
        return None

    def _enter(self, mark: int) -> Runner | None:
        """Start new ones, for what is suspected now: each line as long as it helps."""
        for line in starting_order(self.seen, is_whole=self.untreated.is_whole):
            winner = self._along(line, mark)
            if winner is not None:
                return winner
        return None

    def _along(self, line: Sequence[Suspicion], mark: int) -> Runner | None:
        """Start those of one line, as long as each gets lower than the last; the best that wins.

        A symptom is followed a step longer: a tenth of a rate that is far too high may be too high as well.
        """
        winner: Runner | None = None
        reached, patience = loss_of(self.untreated.runner.scores[mark]), 1
        for suspicion in line:
            has_room = self.schedule.has_room(suspicion, mark, self.runners, self.seen)
            is_known = suspicion.identity in self._entered
            if is_known and self.seen.is_stuck and winner is None:
                continue
            if is_known or not has_room:
                break
            one = self._new(suspicion, mark)
            has_won = self._bring(one, mark)
            if winner is not None and not has_won:
                break
            if winner is None and self.seen.is_stuck and not self._verdict.learns(one.score):
                continue  # where nothing is learnt with either, the losses say nothing about the direction
            if not loss_of(one.scores.get(mark, one.score)) < reached:
                is_sure = suspicion.is_clear or not self.untreated.is_whole
                if winner is not None or not is_sure or not patience:
                    break
                patience -= 1
                continue
            if has_won:
                winner, mark = one, max(one.scores)
            reached = loss_of(one.score)
        return winner

    def _with_lower_rate(self, winner: Runner) -> Runner:
        """Where a lower rate has won, a third of it is compared with it over more steps: the higher one leads at first.

        Further down as long as that is clearly better.
        """
        for _ in range(_MOST_LOWER):
            one = winner.suspicion
            lower = next_lower(one.remedy, self.seen.seen.evidence) if one is not None and one.partner is None else None
            mark = self.schedule.later(winner.steps)
            if one is None or lower is None or mark is None:
                return winner
            suspicion = replace(one, remedy=lower)
            if not self.schedule.has_room(suspicion, mark, self.runners, self.seen):
                return winner
            other = self._new(suspicion, mark)
            for runner, part in product((winner, other), self.schedule.parts(self.schedule.start, mark)):
                if part > runner.steps:
                    self._advance(runner, part)
            if other.failure or not is_better_rate(other.score, winner.score) or not self._is_healthy(other):
                return winner
            winner = other
        return winner

    def _new(self, suspicion: Suspicion, mark: int) -> Runner:
        """One more, treated, at the start."""
        start = self.schedule.start
        given = self._data[start:mark]
        one = Runner(self._patient.copy(), suspicion, steps=start, given=given, seen=self.seen.diagnosis)
        self._entered.add(suspicion.identity)
        self.runners.append(one)
        try:
            suspicion.apply(one.patient, given)
        except CANNOT as error:
            self._out(one, cannot_be_done(error))
        return one

    def _bring(self, one: Runner, mark: int) -> bool:
        """Bring it to the mark, in the same parts as the others; True if it wins on the way."""
        for part in self.schedule.parts(self.schedule.start, mark):
            if part > one.steps:
                self._advance(one, part)
                if self._wins(one):
                    return True
        return False

    def _advance(self, one: Runner, mark: int) -> None:
        if one.failure or one.suspicion is None:
            return
        part = self._data[one.steps : mark]
        is_first = one.steps == self.schedule.start
        try:
            course = train(one.patient, part, self._loss_fn, seed=one.steps, measures=False, skips_nonfinite=True)
            one.num_skipped += course.num_skipped
            if is_first:
                one.first_loss = next(filter(math.isfinite, course.losses), math.inf)
            one.suspicion.finish(one.patient, part)
            one.steps = mark
            one.scores[mark] = score(one.patient.model, self._judged, self._loss_fn, compares=True)
        except CANNOT as error:
            self._out(one, cannot_be_done(error))

    def _out(self, one: Runner, why: str) -> None:
        one.failure, one.patient = why, self._patient

    def _wins(self, one: Runner) -> bool:
        """True if it beats the untreated one after twice the steps, or by far one that learns nothing."""
        if one.failure or one.suspicion is None or not self._verdict.is_proven(one):
            return False
        is_whole = math.isfinite(self.untreated.runner.scores[one.steps].loss)
        if is_whole and self._verdict.has_lost(one):
            self._out(one, is_no_better(self.schedule.taken(one.steps)))
            return False
        return self._verdict.is_ahead(one, one.suspicion) and self._is_healthy(one)

    def _is_healthy(self, one: Runner) -> bool:
        """Train on for some steps, and ask the rules: the issue that it treats is gone, and no other has come."""
        part = self._data[one.steps : one.steps + WATCHED]
        if not part or one.suspicion is None:
            return False
        families = {*self._families, one.suspicion.family, "input_scale"}  # inputs are the same for all
        findings = watched(one, part, self._loss_fn, samples=2, families=families).findings
        one.issues = tuple(dict.fromkeys(finding.code for finding in findings if finding.outcome == "issue"))
        left = self._verdict.issues_left(one, one.suspicion)
        if left:
            self._out(one, has_issues(left))
        return not left
