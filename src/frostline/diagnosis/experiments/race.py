"""A race: one network without treatment, others with one each, on the same batches with the same noise.

All start from the same snapshot and stop at the same marks, where they are compared on held-out samples. A runner is
trained when it is needed and never twice, so what wins has lost nothing and goes on from where it stands.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.diagnosis.experiments.examination import CANNOT, SKILLED, Examination, is_skilled, judge_start
from frostline.diagnosis.experiments.observer import Observation, Observer
from frostline.diagnosis.experiments.running import Runner, loss_of, shifted, watched
from frostline.diagnosis.experiments.score import Score, score
from frostline.diagnosis.experiments.treatments import BATCHNORM
from frostline.diagnosis.experiments.trial import train
from frostline.diagnosis.experiments.verdict import (
    TIMES,
    falls,
    has_lost,
    leads,
    leads_a_little,
    leads_at_last,
    leads_by_far,
    leads_clearly,
    leads_steadily,
)
from frostline.diagnosis.rules.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.examination import Suspicion
    from frostline.diagnosis.experiments.trial import Patient

_EVERY = 4  # steps from one look at all layers to the next
_FEWEST_STEPS = 10  # that prove anything
UNSEEN = frozenset({"input_scale", "batchnorm"})  # what a look at the steps alone cannot judge
WATCHED = 6  # steps after a race is won, in which the rules are asked again; they belong to the training
# Steps of all runners over those that are trained in all; the first is let in in any case.
_EXTRA_OF_ISSUES, _EXTRA, _EXTRA_OF_DOUBTS = 0.8, 0.55, 0.35
_CROWDED = 3  # marks at which two may still run; then one
_SPIKES = frozenset({"FL102", "FL103"})
_LEVEL = 0.05  # of the loss: so much above it counts as no worse
_AHEAD = 1.5  # times its steps after which it must still be ahead, where the batches end before twice


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
        start: Steps that the patient had taken.
        base: Without treatment.
        runners: With one each, in the order in which they entered.
        seen: What was seen of the first.
    """

    seen: Examination

    def __init__(
        self, patient: Patient, data: Sequence[Batch], judged: Sequence[Batch],
        loss_fn: Callable[[Any, Any], Tensor], *, start: int, leg: int, legs: int, kept: Sequence[Suspicion] = (),
    ) -> None:  # fmt: skip
        self._patient, self._data, self._judged, self._loss_fn = patient, data, judged, loss_fn
        last = min(start + legs * leg, max(start + leg, len(data) - WATCHED))
        self.start, self._leg, self._marks = start, leg, range(start + leg, last + 1, leg)
        self._end = start + max(1, (len(data) - WATCHED - start) // leg) * leg
        self.base = Runner(patient.copy(), steps=start)
        self.runners: list[Runner] = []
        self._families = {one.family for one in kept}
        self._entered = {one.remedy.identity for one in kept}
        self._observer = Observer(self.base.patient, data[start:], loss_fn, every=_EVERY, seed=start, skips_inputs=True)
        self._at_first: Diagnosis | None = None

    def run(self) -> Runner:
        """The first that wins; the one without treatment if none does, unless it broke down."""
        with self._observer:
            winner = self._run() or (self.base if math.isfinite(self.base.loss) else self._survivor())
        better = winner.suspicion.remedy.name if winner.suspicion is not None else ""
        for one in self._running():
            if one is not winner:
                self._out(one, f"{better} is better" if better else self._what_lacks(one))
        return winner

    def _what_lacks(self, one: Runner) -> str:
        """Why who is still in the race when it ends has not won."""
        if not math.isfinite(one.loss):
            return "its loss is not finite"
        if one.suspicion is not None and not self._has_symptom(one.suspicion):
            return "no rule has found what it treats"
        if self.start + _AHEAD * (one.steps - self.start) > self._end and one.loss < loss_of(self.base.score):
            return "the batches end before it can be told from a faster start: give more of them"
        return "its lead is too small to be sure"

    def _run(self) -> Runner | None:
        for mark in self._marks:
            self._bring_base(mark)
            if self.seen.is_misfit:
                return None
            winner = self._bring_all(mark) or self._enter(mark)
            if winner is not None:
                return winner
            is_settled = self.seen.is_learning and mark != self._marks[0]
            if is_settled and not self._running():
                return None
        return next((one for one in self._running() if self._is_ahead_at_last(one)), None)

    def forget(self, best: Runner) -> None:
        """Let go of all copies but that of the best."""
        for one in (self.base, *self.runners):
            if one is not best:
                one.patient = best.patient
        self._patient = best.patient
        del self._observer

    def _survivor(self) -> Runner:
        """Where the one without treatment broke down and nobody won: the best of the others, or its start."""
        for one in self._running():
            if math.isfinite(one.loss) and one.suspicion is not None and self._is_healthy(one, one.suspicion):
                return one
        return Runner(self._patient.copy(), steps=self.start)

    def _running(self) -> list[Runner]:
        """Those who are in the race, the best first."""
        return sorted((one for one in self.runners if not one.failure), key=lambda one: one.loss)

    def _bring_base(self, mark: int) -> None:
        if self.base.steps >= mark:
            return
        for at in range(self.base.steps + self._leg, mark + 1, self._leg):
            self._observer.train(at - self.start)
            self._note(self.base, at)
        self.base.num_skipped = self._observer.num_skipped
        evidence = shifted(self._observer.evidence, self.start)
        if "input_scale" in self._families:
            evidence = replace(evidence, inputs=None)
        if self._at_first is None:
            self._at_first = judge_start(evidence)
        self.seen = Examination(
            self._patient, self._data[self.start : mark], self._judged, self._loss_fn,
            Observation(evidence, self.base.score), judge(evidence), self._at_first,
        )  # fmt: skip

    def _bring_all(self, mark: int) -> Runner | None:
        """Bring all to the mark; those who fall behind are out."""
        for one in sorted(self._running(), key=lambda one: not one.is_due):
            if self._bring(one, mark):
                return one
        running = self._running()
        places = 2 if mark <= self.start + _CROWDED * self._leg else 1
        for one in running[places:]:
            if not math.isfinite(running[0].loss):
                break
            self._out(one, f"another was ahead of it after {mark - self.start} steps")
        return None

    def _enter(self, mark: int) -> Runner | None:
        """Start new ones, for what is suspected now: each line as long as it helps."""
        for line in self._lines():
            winner = self._along(line, mark)
            if winner is not None:
                return winner
        return None

    def _along(self, line: Sequence[Suspicion], mark: int) -> Runner | None:
        """Start those of one line, as long as each gets lower than the last; the best that wins."""
        winner: Runner | None = None
        reached = loss_of(self.base.scores[mark])
        for suspicion in line:
            if suspicion.remedy.identity in self._entered or not self._has_room(suspicion, mark):
                break
            one = self._new(suspicion, mark)
            has_won = self._bring(one, mark)
            if winner is not None and not has_won:
                break
            if not loss_of(one.scores.get(mark, one.score)) < reached:
                break
            if has_won:
                winner, mark = one, max(one.scores)
            reached = loss_of(one.score)
        return winner

    def _has_room(self, suspicion: Suspicion, mark: int) -> bool:
        """True if there are steps left for one more, brought to this mark."""
        is_sure = suspicion.is_issue or suspicion.is_clear
        share = _EXTRA_OF_ISSUES if is_sure else _EXTRA_OF_DOUBTS if self.seen.is_learning else _EXTRA
        spent = sum(one.steps - self.start for one in self.runners)
        return not spent or spent + mark - self.start <= share * len(self._data)

    def _lines(self) -> list[list[Suspicion]]:
        """What was wrong before the first step, then what came while training, which may have come of the steps.

        Spikes come before the steps that they make too large; of faster rates, the one that makes steps usual.
        """
        is_whole = math.isfinite(self.base.loss)  # what it left out has done no harm
        found = [one for one in self.seen.suspicions() if one.family != "nonfinite" or not is_whole]
        slower, faster = self.seen.rates(both=False)
        if self.seen.is_stuck and not found and not slower:
            faster = self.seen.rates(both=True)[1]
        early, late = [[one] for one in found if not one.is_late], [[one] for one in found if one.is_late]
        spikes = [line for line in late if line[0].remedy.identity == "clip" and self.seen.codes & _SPIKES]
        others = [line for line in late if line not in spikes]
        due = [[one] for one in found if one.remedy.is_due]
        return [*due, *early, *spikes, slower, *others, faster[-2:], faster[-3::-1]]

    def _new(self, suspicion: Suspicion, mark: int) -> Runner:
        """One more, treated, at the start."""
        given = self._data[self.start : mark]
        one = Runner(self._patient.copy(), suspicion, steps=self.start, given=given, seen=self.seen.diagnosis)
        self._entered.add(suspicion.remedy.identity)
        self.runners.append(one)
        try:
            suspicion.remedy.apply(one.patient, given)
        except CANNOT as error:
            self._out(one, f"it cannot be done here: {type(error).__name__}: {error}")
        return one

    def _bring(self, one: Runner, mark: int) -> bool:
        """Bring it to the mark, in the same parts as the others; True if it wins on the way."""
        for part in range(self.start + self._leg, mark + 1, self._leg):
            if part > one.steps:
                self._advance(one, part)
                if self._wins(one):
                    return True
        return False

    def _advance(self, one: Runner, mark: int) -> None:
        if one.failure or one.suspicion is None:
            return
        part = self._data[one.steps : mark]
        is_first = one.steps == self.start
        try:
            course = train(one.patient, part, self._loss_fn, seed=one.steps, measures=False, skips_nonfinite=True)
            one.num_skipped += course.num_skipped
            if is_first:
                one.first_loss = next(filter(math.isfinite, course.losses), math.inf)
            if one.suspicion.remedy.finish is not None:
                one.suspicion.remedy.finish(one.patient, part)
            self._note(one, mark)
        except CANNOT as error:
            self._out(one, f"it cannot be done here: {type(error).__name__}: {error}")

    def _note(self, one: Runner, mark: int) -> None:
        one.steps = mark
        one.scores[mark] = score(one.patient.model, self._judged, self._loss_fn, compares=True)

    def _out(self, one: Runner, why: str) -> None:
        one.failure, one.patient = why, self._patient

    def _wins(self, one: Runner) -> bool:
        """True if it beats the untreated one after twice the steps, or by far one that learns nothing."""
        if one.failure or one.suspicion is None or one.steps - self.start < _FEWEST_STEPS:
            return False
        other = self.base.scores[one.steps]
        if not math.isfinite(other.loss):
            return math.isfinite(one.loss) and self._learns(one.score) and self._is_healthy(one, one.suspicion)
        marks = (one.steps - self.start) // self._leg
        has_time = one.is_due and marks <= _CROWDED  # a network that is about to swing out is faster at first
        if not has_time and has_lost(one.score, other, marks=marks, learns=self._learns(other)):
            self._out(one, f"it is not clearly better than without after {one.steps - self.start} steps")
            return False
        return self._is_ahead(one, one.suspicion) and self._is_healthy(one, one.suspicion)

    def _is_ahead(self, one: Runner, suspicion: Suspicion) -> bool:
        """True if the scores say so; the untreated one is trained on for that."""
        own, other, taken = one.score, self.base.scores[one.steps], one.steps - self.start
        is_issue = suspicion.is_issue or suspicion.family in self.seen.issues
        claim = {"is_issue": is_issue, "has_symptom": suspicion.has_symptom}
        is_idle = not self._learns(other)
        if is_idle and is_issue and suspicion.family == "input_scale" and taken > self._leg:
            return own.loss <= other.loss  # who learns nothing with inputs in another unit has nothing to lose
        if is_idle and not self._learns(own, least=0.0):
            return False  # a loss far below that of a network that blew up may still be far above that of none
        is_better = leads(own, other, **claim, learns=not is_idle)
        is_fair = is_better or is_issue
        if is_idle and is_fair and suspicion.has_symptom and leads_by_far(own, other):
            return True
        later = min(self.start + 2 * taken, self._end)
        if later - self.start < _AHEAD * taken or not (is_better or (is_issue and leads_a_little(own, other))):
            return False
        self._bring_base(later)
        last = self.base.scores[later]
        if self._learns(last) and not suspicion.has_symptom:
            return False  # it was slow at first, and learns
        if is_better and leads(own, last, **claim, learns=self._learns(last)):
            return True
        twice = [(at, 2 * at - self.start) for at in one.scores]
        pairs = [(one.scores[at], self.base.scores[then]) for at, then in twice if then in self.base.scores]
        return is_issue and leads_steadily(pairs)

    def _is_ahead_at_last(self, one: Runner) -> bool:
        """True if it leads when the race is over, and still does against the untreated one after half as many again.

        Where the batches end before that, it must have led at several marks.
        """
        suspicion, is_proven = one.suspicion, one.steps - self.start >= _FEWEST_STEPS
        if suspicion is None or not is_proven or not self._has_symptom(suspicion):
            return False
        if suspicion.remedy.identity == BATCHNORM and not suspicion.is_issue:
            return False  # it is ahead in most healthy networks as well
        later = self.start + round(_AHEAD * (one.steps - self.start)) // self._leg * self._leg
        marks = [one.steps] if later <= self._end else list(one.scores)[-TIMES:]
        pairs = [(one.scores[mark], self.base.scores[mark]) for mark in marks]
        if not all(leads_clearly(own, other) for own, other in pairs[:-1]):
            return False
        own, other = pairs[-1]
        if not leads_at_last(own, other, learns=self._learns(other)):
            return False
        later = min(later, self._end)
        self._bring_base(later)
        last = self.base.scores[later]
        return falls(one.score, last, -_LEVEL) and one.score.share >= last.share and self._is_healthy(one, suspicion)

    def _has_symptom(self, suspicion: Suspicion) -> bool:
        """True if a rule has found what it treats, when it entered or since."""
        code, findings = suspicion.remedy.code, self.seen.diagnosis.findings
        return suspicion.has_symptom or any(
            one.code == code if code else one.family == suspicion.family for one in findings
        )

    def _learns(self, score: Score, least: float = SKILLED) -> bool:
        return is_skilled(score, min([self.seen.seen.first_loss, *(one.first_loss for one in self.runners)]), least)

    def _is_healthy(self, one: Runner, suspicion: Suspicion) -> bool:
        """Ask the rules again over the next steps: the issue that it treats is gone, and no other has come.

        Beside a network that learns nothing, one that learns in spite of another issue is worth keeping.
        """
        learns = self._learns(self.base.score)
        part = self._data[one.steps : one.steps + WATCHED]
        if not part:
            return False
        families = {*self._families, suspicion.family, "input_scale"}  # inputs are the same for all
        findings = watched(one, part, self._loss_fn, samples=2, families=families).findings
        one.issues = tuple(dict.fromkeys(finding.code for finding in findings if finding.outcome == "issue"))
        known = {finding.code for finding in self.seen.diagnosis.findings if finding.outcome == "issue"}
        treated = {finding.code for finding in self.seen.diagnosis.findings if finding.family == suspicion.family}
        standing = [code for code in one.issues if code in treated or (learns and code not in known)]
        if standing:
            self._out(one, f"{', '.join(standing)} stands or is new")
        return not standing
