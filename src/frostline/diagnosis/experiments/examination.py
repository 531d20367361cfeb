"""One examination for `checkup` and `heal`: what is suspected, in which order it is undone, and when that counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from torch import Tensor

from frostline.core.errors import FOREIGN, FrostlineError
from frostline.diagnosis.experiments.budget import Budget
from frostline.diagnosis.experiments.counterparts import facts_of_counterparts
from frostline.diagnosis.experiments.learning_rates import is_rising, rate_remedies
from frostline.diagnosis.experiments.observer import observe
from frostline.diagnosis.experiments.retrained import facts_of_order, is_learnt_by_heart
from frostline.diagnosis.experiments.score import Score, score
from frostline.diagnosis.experiments.treatments import Remedy, family_of, is_clear, remedies_for
from frostline.diagnosis.experiments.trial import Course, Patient, train
from frostline.diagnosis.rules.judge import judge
from frostline.diagnosis.rules.limits import ENOUGH_EPOCHS, LEARNS, STEPS_TO_LEARN
from frostline.diagnosis.rules.nonfinite import IN_THE_LOSS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.observer import Observation
    from frostline.diagnosis.rules.records import Evidence

_CALM = 8.0  # times the median: where gradients count as spikes
_PAIRED = 3  # factors of which two at a time are undone
_SLOWER = frozenset({"FL102", "FL103", "FL201", "FL401", "FL403", "FL502"})  # what steps that are too large can bring
_GROWN = frozenset({"FL102", "FL201"})  # the same, where it was not there before the first step
# Evidence that no experiment can add to.
_CERTAIN = frozenset({
    "FL405", "FL406", "FL411", "FL412", "FL503", "FL506", "FL507", "FL508", "FL509", "FL510", "FL511", "FL512",
    "FL513", "FL515", "FL516", "FL518", "FL519", "FL520", "FL604", "FL606", "FL607",
})  # fmt: skip
_SPECIFIC = _CERTAIN | {"FL408", "FL514", "FL605"}  # findings that name more than a part
_HINTS = frozenset({"FL509", "FL518", "FL519", "FL520"})  # whose tips may be meant so
# What a treatment raises that the network or its loss cannot take.
CANNOT = (FrostlineError, *FOREIGN)


def is_skilled(score: Score, first: float, least: float = LEARNS) -> bool:
    """True if a network with this score is better than the constant-prediction baseline, or it is not known.

    Args:
        score: Of held-out samples.
        first: The loss of the first step: the one answer is the mean of its own, and those of a network that blew up
            are worse than none. So its loss must not be above the first, unless more outputs are correct.
        least: The share of the loss of that answer that it must save.
    """
    has_gained = not score.loss > first or (score.lead or 0.0) > LEARNS
    return score.skill is None or (score.skill > least and has_gained)


@dataclass(frozen=True)
class Suspicion:
    """A treatment worth a trial.

    Attributes:
        remedy: What would be undone.
        family: The sickness whose cause it would be.
        is_clear: True if a rule found more than a tip of that family.
        has_symptom: True if a rule found anything of it.
        is_late: True if nothing of it was there before the first step.
        is_issue: True if a rule calls it an issue.
        partner: Another factor that is undone with it, or None.
    """

    remedy: Remedy
    family: str
    is_clear: bool
    has_symptom: bool
    is_late: bool = False
    is_issue: bool = False
    partner: Suspicion | None = None

    @property
    def name(self) -> str:
        """What is done, in words."""
        return self.remedy.name if self.partner is None else f"{self.remedy.name}, and {self.partner.name}"

    @property
    def parts(self) -> tuple[Suspicion, ...]:
        """This factor, and the one that is undone with it."""
        return (self,) if self.partner is None else (self, *self.partner.parts)

    @property
    def identity(self) -> str:
        """What it is known by, in a race."""
        return " and ".join(one.remedy.identity for one in self.parts)

    def apply(self, patient: Patient, data: Sequence[Batch]) -> None:
        """Undo all of it in place.

        Args:
            patient: What is changed.
            data: What it trains on.
        """
        for one in self.parts:
            one.remedy.apply(patient, data)

    def finish(self, patient: Patient, data: Sequence[Batch]) -> None:
        """What is left to do after some training.

        Args:
            patient: What is changed.
            data: What it has trained on.
        """
        for one in self.parts:
            if one.remedy.finish is not None:
                one.remedy.finish(patient, data)


@dataclass(frozen=True)
class Trial:
    """A treatment, and what came of it.

    Attributes:
        suspicion: What was tried, and why.
        patient: The treated network, trained on the same batches; None if it could not be treated.
        score: Its score on the held-out samples.
        gain: By how much the share of correct outputs rose.
        error: Standard error of the gain.
        loss_ratio: Held-out loss over the one without, and as much above 1 where losses are negative; 0 where that is
            not finite.
        course: What the training saw.
        failure: Why it could not be tried, or "".
        is_open: True if it was left out, for want of time.
    """

    suspicion: Suspicion
    patient: Patient | None
    score: Score
    gain: float
    error: float
    loss_ratio: float
    course: Course
    failure: str = ""
    is_open: bool = False

    @property
    def is_calm(self) -> bool:
        """True if no gradient was far beyond the usual with it."""
        later = [norm for norm in self.course.norms[5:] if norm == norm]
        return bool(later) and max(later) < _CALM * median(later)


@dataclass(frozen=True)
class Examination:
    """A network that was seen training on some batches, and all that trials of it share.

    Attributes:
        patient: As it came; trials start from copies of it.
        data: What every trial trains on.
        judged: What it is judged by.
        loss_fn: callable(output, target) -> scalar.
        seen: The training without treatment.
        diagnosis: What the rules say about it.
        start: What they say about it before its first step.
        seed: Of the noise in the model.
        budget: What all experiments may take together.
        divides: False if the model takes no batches of fewer rows.
        codes: Of all findings.
    """

    patient: Patient
    data: Sequence[Batch]
    judged: Sequence[Batch]
    loss_fn: Callable[[Any, Any], Tensor]
    seen: Observation
    diagnosis: Diagnosis
    start: Diagnosis
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    divides: bool = True
    codes: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", frozenset(finding.code for finding in self.diagnosis.findings))

    @property
    def certain_cause(self) -> str | None:
        """The family of the first issue that needs no trial, and beside which trials say nothing; None without one."""
        has_lost_all = any(not math.isfinite(loss) for _, loss in self.seen.evidence.losses)
        return next(
            (
                one.family
                for one in self.diagnosis.findings
                if one.outcome == "issue" and (one.code in _CERTAIN or (has_lost_all and one.layer == IN_THE_LOSS))
            ),
            None,
        )

    @property
    def is_learning(self) -> bool:
        """True if the untreated network is better than the constant-prediction baseline, or it is not known."""
        return is_skilled(self.seen.score, self.seen.first_loss)

    @property
    def is_stuck(self) -> bool:
        """True if it has had time, and learns nothing: a symptom of its own."""
        return not self.is_learning and self.num_steps >= STEPS_TO_LEARN and math.isfinite(self.seen.score.loss)

    @property
    def num_steps(self) -> int:
        """Of the optimizer, in one training on the data."""
        return len(self.data) // self.patient.accumulation

    @property
    def is_short(self) -> bool:
        """True if larger steps would be ahead in a healthy network as well, unless the rule calls these too small."""
        epochs = self.seen.evidence.epochs
        return epochs is not None and epochs < ENOUGH_EPOCHS and "FL402" not in self.codes

    @property
    def has_large_steps(self) -> bool:
        """True if steps are so large that a few of them show whether smaller ones do better."""
        return any(finding.code == "FL401" and is_clear(finding) for finding in self.diagnosis.findings)

    @property
    def issues(self) -> set[str]:
        """Families of which a rule has found an issue."""
        return {finding.family for finding in self.diagnosis.findings if finding.outcome == "issue"}

    def suspicions(self) -> list[Suspicion]:
        """What the evidence suggests: clear symptoms before tips, the most specific treatment first."""
        early = {finding.family for finding in self.start.findings}
        clear = {finding.family for finding in self.diagnosis.findings if is_clear(finding)}
        all_families = {finding.family for finding in self.diagnosis.findings}
        found: list[Suspicion] = []
        evidence = self.seen.evidence
        for remedy in remedies_for(evidence, self.diagnosis, is_stuck=self.is_stuck):
            family = family_of(remedy, [self.start, self.diagnosis])
            if family is not None:
                is_issue = family in self.issues or remedy.is_due
                has_symptom = family in all_families | early
                found.append(Suspicion(remedy, family, family in clear, has_symptom, family not in early, is_issue))
        return sorted(found, key=lambda one: not one.is_clear)

    def rates(self, *, both: bool) -> list[list[Suspicion]]:
        """Other learning rates: slower ones and faster ones, mild ones first.

        Args:
            both: Both directions, whatever the symptoms; and last, where steps look too large, one only a little lower.
        """
        are_large = bool(self.codes & _SLOWER) and "FL402" not in self.codes
        slower, faster, gentle = rate_remedies(self.seen.evidence, is_stuck=self.is_stuck and are_large) or ((), (), ())
        own = [finding for finding in self.diagnosis.findings if finding.family == "learning_rate"]
        clear = {finding.code for finding in own if is_clear(finding) or self.is_stuck}
        asked = (
            slower if both or self.codes & _SLOWER else (),
            faster if both or "FL402" in self.codes else (),
        )
        if is_rising(self.seen.evidence) or self.is_short:
            asked = asked[0], ()  # what was seen may be the beginning of a warm-up, or of a training
        directions = [("FL401", asked[0]), ("FL402", asked[1])]
        directions += [("FL401", gentle)] if both and "FL401" in self.codes else []
        is_issue = "learning_rate" in self.issues
        early = {finding.code for finding in self.start.findings}
        has_grown = both and bool((self.codes - early) & _GROWN)
        seen = self.codes | {"FL401"} if has_grown else self.codes
        return [
            [Suspicion(one, "learning_rate", code in clear, code in seen, is_issue=is_issue) for one in direction]
            for code, direction in directions
        ]

    def attempt(self, suspicion: Suspicion, *, trainings: int = 1) -> Trial:
        """Undo one factor on a copy, and train it on the same batches with the same noise.

        Args:
            suspicion: The factor.
            trainings: For which the budget must have room, so that the result can be used.
        """
        if not self.budget.has_room(suspicion.name, trainings):
            return self._left_open(suspicion)
        try:
            with self.budget.training():
                twin = self.patient.copy()
                suspicion.apply(twin, self.data)
                course = train(twin, self.data, self.loss_fn, seed=self.seed)
                suspicion.finish(twin, self.data)
                after = score(twin.model, self.judged, self.loss_fn)
        except KeyboardInterrupt:
            self.budget.interrupt()
            return self._left_open(suspicion)
        except CANNOT as error:
            why = f"this treatment cannot be applied here: {type(error).__name__}: {error}"
            return replace(_FAILED, suspicion=suspicion, failure=why)
        before = self.seen.score
        is_comparable = before.loss == before.loss and before.loss != 0
        ratio = 1 - (before.loss - after.loss) / abs(before.loss) if is_comparable else 0.0
        return Trial(suspicion, twin, after, *after.gain_over(before), ratio, course)

    def pairs(self, tried: Sequence[Trial]) -> list[Suspicion]:
        """Two factors at a time, of those that are most suspected and did not help alone, in a network that is sick."""
        clear = [trial for trial in tried if trial.patient is not None and trial.suspicion.has_symptom]
        known: dict[str, Suspicion] = {}
        for trial in sorted(clear, key=lambda one: (not one.suspicion.is_clear, -one.gain)):
            known.setdefault(trial.suspicion.remedy.code or trial.suspicion.family, trial.suspicion)
        several = list(known.values())[:_PAIRED]
        if not self.is_stuck and sum(one.is_clear for one in several) < 2:
            return []
        return [
            replace(one, partner=other) for at, one in enumerate(several) for other in several[at + 1 :]
            if self.is_stuck or (one.is_clear and other.is_clear)
        ]  # fmt: skip

    def with_memory_test(self) -> Examination:
        """The same, with what the rules say once it is known whether a network that learns nothing learns a batch."""
        if not self.is_stuck or "FL404" not in self.codes or self.is_short:
            return self
        return self._with(is_learnt_by_heart=is_learnt_by_heart(self))

    def with_counterparts(self, *, is_rate_known: bool = True) -> Examination:
        """The same, with what the rules say once parts of a network that learns little were swapped for plain ones.

        Args:
            is_rate_known: False if the optimizer is one of ours: nothing is said about it.
        """
        named = {one.code for one in self.diagnosis.findings if one.outcome == "issue" or one.code not in _HINTS}
        facts = None if self.is_short or named & _SPECIFIC else facts_of_counterparts(self)
        if facts is None or (facts.part == "optimizer" and not is_rate_known):
            return self
        return self._with(counterparts=facts)

    def with_order(self) -> Examination:
        """The same, with what the rules say of an order of the batches once the same rows were shuffled."""
        is_ordered = any(one.code == "FL507" and one.outcome == "issue" for one in self.diagnosis.findings)
        facts = facts_of_order(self) if is_ordered else None
        return self if facts is None else self._with(shuffle=facts)

    def _with(self, **facts: Any) -> Examination:
        evidence = replace(self.seen.evidence, **facts)
        return replace(self, seen=replace(self.seen, evidence=evidence), diagnosis=judge(evidence))

    def _left_open(self, suspicion: Suspicion) -> Trial:
        return replace(_FAILED, suspicion=suspicion, failure=f"not tried: {self.budget.ended}", is_open=True)


_FAILED = Trial(
    Suspicion(Remedy("", (), lambda *_: None), "", False, False),
    None, Score(0.0, math.nan), -1.0, 0.0, math.inf, Course((), 0),
)  # fmt: skip


def examine(
    patient: Patient, data: Sequence[Batch], judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *,
    whole: Sequence[Batch] | None = None, epochs: float | None = None, budget: Budget | None = None,
    divides: bool = True,
) -> Examination:  # fmt: skip
    """What is seen of a copy in training.

    Args:
        patient: A copy of it is trained.
        data: Batches to train on.
        judged: Batches to be judged by.
        loss_fn: callable(output, target) -> scalar.
        whole: All batches as they were given, in which values that are not finite are looked up.
        epochs: How many epochs these are; None if not known.
        budget: What this and all trials of it may take; None sets no limit.
        divides: False if the model takes no batches of fewer rows.
    """
    budget = budget or Budget()
    seen = observe(patient.copy(), data, judged, loss_fn, whole=whole, epochs=epochs)
    if not seen.is_whole:
        budget.interrupt()
    found, start = judge(seen.evidence), judge_start(seen.evidence)
    return Examination(patient, data, judged, loss_fn, seen, found, start, budget=budget, divides=divides)


def judge_start(evidence: Evidence) -> Diagnosis:
    """What the rules say about a network before its first step."""
    return judge(replace(evidence, records=evidence.records[:1], losses=evidence.losses[:1], gradient_norms=()))
