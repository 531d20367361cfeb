"""A race: one network without treatment, others with one each, on the same batches with the same noise.

All start from the same snapshot and stop at the same marks, where they are compared on held-out samples. A runner is
trained when it is needed and never twice, so what wins has lost nothing and goes on from where it stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from frostline.health import Monitor, Patient, Score, judge, score, train
from frostline.recipes.examination.examining import CANNOT, Examination, is_skilled, judge_start
from frostline.recipes.examination.observing import Observation, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from torch import Tensor

    from frostline.core.records import Diagnosis
    from frostline.recipes.examination.batching import Batch
    from frostline.recipes.examination.examining import Suspicion

_EVERY = 4  # steps from one look at all layers to the next
_FEWEST_STEPS = 10  # that prove anything
WATCHED = 6  # steps after a race is won, in which the rules are asked again; they belong to the training
# Steps of all runners over those that are trained in all; the first is let in in any case.
_EXTRA_OF_ISSUES, _EXTRA, _EXTRA_OF_DOUBTS = 0.8, 0.55, 0.35
_CROWDED = 3  # marks at which two may still run; then one
_SPIKES = frozenset({"FL102", "FL103"})
# A treatment leads if the held-out loss is so much lower, and the share of right answers is higher by so much and by so
# many of its standard errors. Least is asked for an issue of a network that learns nothing, most for a tip of one that
# learns. Tuned on the exam's tuning part.
_OF_ISSUES, _OF_TIPS, _OF_DOUBTS = (0.97, 0.0, 0.0), (0.96, 0.04, 2.0), (0.9, 0.08, 2.0)
_FAR = 0.6  # of the loss without treatment
_STEADY = 0.94  # of it, three times in a row
_ALL = 0.95  # of the loss of one answer for all is saved: there is little left to gain
_CLEARLY = 0.8  # of it: for an issue, that is enough if no answer is lost
_AHEAD = (
    1.5  # times the steps of a treatment that it must beat the untreated one at, where the batches end before twice
)
# Times the loss without treatment: it is out, at the first mark and later; and later in a network that learns.
_LOST_AT_FIRST, _LOST, _NO_BETTER = 2.0, 1.05, 0.99


@dataclass
class Runner:
    """One way to train: untreated, or with a treatment.

    Attributes:
        patient: Where the training stands; the one it started from, if it is out.
        suspicion: What is treated, and how; None without.
        steps: Taken so far.
        scores: Held-out, by steps taken.
        num_skipped: Steps left out because something was not finite.
        issues: Codes of the issues that were left when it was ahead.
        failure: Why it is out, or "".
        given: The batches by which it was treated.
    """

    patient: Patient
    suspicion: Suspicion | None = None
    steps: int = 0
    scores: dict[int, Score] = field(default_factory=dict[int, Score])
    num_skipped: int = 0
    issues: tuple[str, ...] = ()
    failure: str = ""
    given: Sequence[Batch] = ()

    @property
    def score(self) -> Score:
        """The last."""
        return next(reversed(self.scores.values()), Score(0.0, math.nan))

    @property
    def loss(self) -> float:
        """The last held-out loss; infinite where it is not finite."""
        return _loss(self.score)


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
        self._start, self._leg, self._marks = start, leg, range(start + leg, last + 1, leg)
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
            for mark in self._marks:
                self._bring_base(mark)
                if self.seen.is_misfit:
                    break
                winner = self._go_on(mark) or self._enter(mark)
                if winner is not None:
                    return winner
                is_settled = self.seen.is_learning and mark != self._marks[0]
                if is_settled and not self._running():
                    break
        return self.base if math.isfinite(self.base.loss) else self._survivor()

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
        return Runner(self._patient.copy(), steps=self._start)

    def _running(self) -> list[Runner]:
        """Those who are in the race, the best first."""
        return sorted((one for one in self.runners if not one.failure), key=lambda one: one.loss)

    def _bring_base(self, mark: int) -> None:
        if self.base.steps >= mark:
            return
        for at in range(self.base.steps + self._leg, mark + 1, self._leg):
            self._observer.train(at - self._start)
            self._note(self.base, at)
        self.base.num_skipped = self._observer.num_skipped
        evidence = self._observer.evidence
        if "input_scale" in self._families:
            evidence = replace(evidence, inputs=None)
        if self._at_first is None:
            self._at_first = judge_start(evidence)
        self.seen = Examination(
            self._patient, self._data[self._start : mark], self._judged, self._loss_fn,
            Observation(evidence, self.base.score), judge(evidence), self._at_first,
        )  # fmt: skip

    def _go_on(self, mark: int) -> Runner | None:
        """Bring all to the mark; those who fall behind are out."""
        for one in self._running():
            if self._bring(one, mark):
                return one
        for one in self._running()[2 if mark <= self._start + _CROWDED * self._leg else 1 :]:
            self._out(one, f"another was ahead of it after {mark} steps")
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
        reached = _loss(self.base.scores[mark])
        for suspicion in line:
            if suspicion.remedy.identity in self._entered or not self._has_room(suspicion, mark):
                break
            one = self._new(suspicion, mark)
            has_won = self._bring(one, mark)
            if winner is not None and not has_won:
                break
            if not _loss(one.scores.get(mark, one.score)) < reached:
                break
            if has_won:
                winner, mark = one, max(one.scores)
            reached = _loss(one.score)
        return winner

    def _has_room(self, suspicion: Suspicion, mark: int) -> bool:
        """True if there are steps left for one more, brought to this mark."""
        share = _EXTRA_OF_ISSUES if suspicion.is_issue else _EXTRA_OF_DOUBTS if self.seen.is_learning else _EXTRA
        spent = sum(one.steps - self._start for one in self.runners)
        return not spent or spent + mark - self._start <= share * len(self._data)

    def _lines(self) -> list[list[Suspicion]]:
        """What was wrong before the first step, then what came while training, which may have come of the steps.

        Spikes come before the steps that they make too large; of faster rates, the one that brings steps to what is usual.
        """
        is_whole = math.isfinite(self.base.loss)  # what it left out has done no harm
        found = [one for one in self.seen.suspicions() if one.family != "nonfinite" or not is_whole]
        slower, faster = self.seen.rates(both=False)
        if self.seen.is_stuck and not found and not slower:
            faster = self.seen.rates(both=True)[1]
        early, late = [[one] for one in found if not one.is_late], [[one] for one in found if one.is_late]
        spikes = [line for line in late if line[0].remedy.identity == "clip" and self.seen.codes & _SPIKES]
        others = [line for line in late if line not in spikes]
        return [*early, *spikes, slower, *others, faster[-2:], faster[-3::-1]]

    def _new(self, suspicion: Suspicion, mark: int) -> Runner:
        """One more, treated, at the start."""
        given = self._data[self._start : mark]
        one = Runner(self._patient.copy(), suspicion, steps=self._start, given=given)
        self._entered.add(suspicion.remedy.identity)
        self.runners.append(one)
        try:
            suspicion.remedy.apply(one.patient, given)
        except CANNOT as error:
            self._out(one, f"it cannot be done here: {type(error).__name__}: {error}")
        return one

    def _bring(self, one: Runner, mark: int) -> bool:
        """Bring it to the mark, in the same parts as the others; True if it wins on the way."""
        for part in range(self._start + self._leg, mark + 1, self._leg):
            if part > one.steps:
                self._advance(one, part)
                if self._wins(one):
                    return True
        return False

    def _advance(self, one: Runner, mark: int) -> None:
        if one.failure or one.suspicion is None:
            return
        part = self._data[one.steps : mark]
        try:
            course = train(one.patient, part, self._loss_fn, seed=one.steps, measures=False, skips_nonfinite=True)
            one.num_skipped += course.num_skipped
            if one.suspicion.remedy.finish is not None:
                one.suspicion.remedy.finish(one.patient, part)
            self._note(one, mark)
        except CANNOT as error:
            self._out(one, f"it cannot be done here: {type(error).__name__}: {error}")

    def _note(self, one: Runner, mark: int) -> None:
        one.steps = mark
        one.scores[mark] = score(one.patient.model, self._judged, self._loss_fn)

    def _out(self, one: Runner, why: str) -> None:
        one.failure, one.patient = why, self._patient

    def _wins(self, one: Runner) -> bool:
        """True if it beats the untreated one after twice the steps, or by far one that learns nothing."""
        if one.failure or one.suspicion is None or one.steps - self._start < _FEWEST_STEPS:
            return False
        own, other = one.score, self.base.scores[one.steps]
        if not math.isfinite(other.loss):
            return math.isfinite(own.loss) and self._is_skilled(own) and self._is_healthy(one, one.suspicion)
        legs = (one.steps - self._start) // self._leg
        if not _falls(
            own,
            other,
            1
            - (
                _LOST_AT_FIRST
                if legs == 1
                else _LOST
                if legs == 2
                else _NO_BETTER
                if self._is_skilled(other)
                else _LOST
            ),
        ):
            self._out(one, f"the loss is no lower than without after {one.steps} steps")
            return False
        return self._is_ahead(one, one.suspicion, legs) and self._is_healthy(one, one.suspicion)

    def _is_skilled(self, score: Score) -> bool:
        return is_skilled(score, self.seen.seen.evidence)

    def _is_ahead(self, one: Runner, suspicion: Suspicion, legs: int) -> bool:
        own, other = one.score, self.base.scores[one.steps]
        is_issue, learns = suspicion.family in self.seen.issues, self._is_skilled(other)
        if is_issue and suspicion.family == "input_scale" and legs > 1 and not learns:
            return own.loss <= other.loss  # who learns nothing with inputs in another unit has nothing to lose
        leads = _leads(own, other, suspicion, is_issue=is_issue, learns=learns)
        is_low = leads or (is_issue and (own.skill or 0.0) > 0)
        if is_low and not learns and _falls(own, other, 1 - _FAR):
            return True
        later = min(2 * one.steps - self._start, self._end)
        if later - self._start < _AHEAD * (one.steps - self._start):
            return False
        if not leads and not (is_issue and _falls(own, other, 1 - _STEADY)):
            return False
        self._bring_base(later)
        last = self.base.scores[later]
        learns = self._is_skilled(last)
        if learns and not suspicion.has_symptom:
            return False  # it was slow at first, and learns
        if leads and _leads(own, last, suspicion, is_issue=is_issue, learns=learns):
            return True
        return is_issue and _has_more(last) and self._is_steady(one)

    def _is_steady(self, one: Runner) -> bool:
        """True if it beat the untreated one after twice the steps a little, three times in a row."""
        marks = [mark for mark in list(one.scores)[-3:] if 2 * mark - self._start in self.base.scores]
        pairs = [(one.scores[mark], self.base.scores[2 * mark - self._start]) for mark in marks]
        return len(pairs) > 2 and all(
            _falls(own, other, 1 - _STEADY) and own.share >= other.share for own, other in pairs
        )

    def _is_healthy(self, one: Runner, suspicion: Suspicion) -> bool:
        """Ask the rules again over the next steps: the issue that it treats is gone, and no other has come.

        Beside a network that learns nothing, one that learns in spite of another issue is worth keeping.
        """
        learns = self._is_skilled(self.base.score)
        part = self._data[one.steps : one.steps + WATCHED]
        if not part:
            return False
        families = {*self._families, suspicion.family}
        findings = watched(one, part, self._loss_fn, samples=2, families=families).findings
        one.issues = tuple(dict.fromkeys(finding.code for finding in findings if finding.outcome == "issue"))
        known = {finding.code for finding in self.seen.diagnosis.findings if finding.outcome == "issue"}
        treated = {finding.code for finding in self.seen.diagnosis.findings if finding.family == suspicion.family}
        standing = [code for code in one.issues if code in treated or (learns and code not in known)]
        if standing:
            self._out(one, f"{', '.join(standing)} stands or is new")
        return not standing


def watched(
    one: Runner, part: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *, samples: int,
    families: AbstractSet[str],
) -> Diagnosis:  # fmt: skip
    """Train on; what the rules say about it, where these families have been treated."""
    own, every = one.patient, max(1, -(-len(part) // samples))
    with Monitor(own.model, own.optimizer, every=every, budget=math.inf) as monitor:
        seen = train(own, part, loss_fn, monitor=monitor, seed=one.steps, measures=False, skips_nonfinite=True)
    one.num_skipped += seen.num_skipped
    records = tuple(replace(record, step=record.step + one.steps) for record in monitor.records)
    one.steps += len(part)
    evidence = replace(monitor.evidence, records=records)
    if "input_scale" in families:
        evidence = replace(evidence, inputs=None)  # what the monitor saw comes before the layer that scales it
    return judge(evidence)


def _leads(own: Score, other: Score, suspicion: Suspicion, *, is_issue: bool, learns: bool) -> bool:
    """True if held-out loss and answers are clearly better than the other's."""
    fall, least, errors = _OF_ISSUES if is_issue else _OF_TIPS
    if learns or not suspicion.has_symptom:
        fall, least, errors = _OF_TIPS if is_issue else _OF_DOUBTS
    gain, error = own.gain_over(other)
    is_lower = is_issue and _has_more(other) and _falls(own, other, 1 - _CLEARLY) and gain >= 0
    return is_lower or (_falls(own, other, 1 - fall) and gain >= max(least, errors * error))


def _has_more(other: Score) -> bool:
    return other.skill is None or other.skill < _ALL


def _falls(own: Score, other: Score, share: float) -> bool:
    """True if the loss is lower than the other's by more than this share of it, whatever its sign."""
    if not math.isfinite(other.loss):
        return math.isfinite(own.loss)
    return own.loss < other.loss - share * abs(other.loss)


def _loss(of: Score) -> float:
    return of.loss if math.isfinite(of.loss) else math.inf
