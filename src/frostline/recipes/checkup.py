"""A checkup: train a copy, let the rules look for symptoms, and undo one factor at a time to find the cause.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.errors import DataError
from frostline.core.records import Diagnosis, Finding
from frostline.health import Patient, diagnosis_of, judge, score, train
from frostline.health.rules import RULES
from frostline.recipes.observing import as_batches, held_out, observe
from frostline.recipes.treatments import Remedy, family_of, is_clear, rate_remedies, remedies_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.recipes.observing import Batch, Observation

# A treatment counts if it brings so many more right answers (or so much more explained variance): a change that comes
# with a clear symptom needs to bring less than one that helps a little nearly everywhere. Tuned on the exam's tuning
# part.
_GAIN, _GAIN_OF_TIPS, _GREAT_GAIN = 0.04, 0.10, 0.15
_LOSS_RATIO, _GREAT_LOSS_RATIO = 0.9, 0.33
_AS_GOOD_AS_IT_GETS = 0.97  # right answers: what comes later can hardly do better, and is less specific
_CALM = 8.0  # times the median: where gradients count as spikes
_STAGES = (1, 5)  # sampled steps that show what the training started from
_NEARLY_BEST = 0.8  # of the largest gain: the most specific of those is the cause
_CERTAIN = frozenset({"FL502", "FL503", "FL504", "FL603"})  # what needs no trial


@dataclass(frozen=True)
class Trial:
    """A treatment, and what came of it.

    Attributes:
        remedy: What was done.
        family: The sickness that it speaks for.
        has_symptom: True if a rule found anything of that family.
        is_clear: True if it found more than a tip.
        is_late: True if the symptom was not there in the first steps.
        gain: How much better the network got, in share of right answers.
        loss: Held-out loss with it.
        loss_ratio: Over the one without; 0 where that is not finite.
        is_calm: True if no gradient was far beyond the usual with it.
    """

    remedy: Remedy
    family: str
    has_symptom: bool
    is_clear: bool
    is_late: bool
    gain: float
    loss: float
    loss_ratio: float
    is_calm: bool

    @property
    def counts(self) -> bool:
        """True if the network is clearly better with it: in answers and in loss, or much better in one."""
        if self.gain >= _GREAT_GAIN or (self.is_clear and self.gain >= 0 and self.loss_ratio < _GREAT_LOSS_RATIO):
            return True
        return (
            self.has_symptom
            and self.gain >= (_GAIN if self.is_clear else _GAIN_OF_TIPS)
            and self.loss_ratio < _LOSS_RATIO
        )


def checkup(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor],
    optimizer: Optimizer | None = None, *, steps: int | None = None,
) -> Diagnosis:  # fmt: skip
    """Find what keeps a network from training, on a copy: symptoms by layer, and the cause by trial.

    The copy trains on the batches while every layer is measured. What the rules suspect is then undone, one factor at
    a time, from the same start on the same batches: a suspicion is an issue only if that makes the network clearly
    better, and the cause is the most specific factor that does. Your model, optimizer, generators and modes are left
    as they are. It takes the time of one training on the batches for each factor that is tried.

    Args:
        model: As it is before training, or anywhere in it.
        batches: A finite iterable of `(inputs, target)`, such as a few epochs of a loader.
        loss_fn: callable(output, target) -> scalar.
        optimizer: The one that you train with; its settings and state are copied. None takes AdamW at 1e-3, and the
            learning rate is not judged.
        steps: Use only so many batches.

    Returns:
        Issues and tips, most severe first, each with its evidence; the cause if there is one.

    Raises:
        DataError: If there are no batches, nothing trains, or the loss is not a scalar that depends on the model.
    """
    whole = as_batches(batches, model, steps)
    data, judged = held_out(whole)
    patient = Patient(model, optimizer or _default_optimizer(model))
    seen = observe(patient.copy(), data, judged, loss_fn, whole=whole)
    diagnosis = judge(seen.evidence)
    if any(finding.code == "FL503" and finding.outcome == "issue" for finding in diagnosis.findings):
        return _told(diagnosis, None, "loss_mismatch")
    tried = _Examination(patient, data, judged, loss_fn, seen, diagnosis).run(is_rate_known=optimizer is not None)
    cause = _cause(tried)
    return _told(diagnosis, cause, cause.family if cause is not None else None, {trial.family for trial in tried})


@dataclass(frozen=True)
class _Examination:
    """All that trials share."""

    patient: Patient
    data: Sequence[Batch]
    judged: Sequence[Batch]
    loss_fn: Callable[[Any, Any], Tensor]
    seen: Observation
    diagnosis: Diagnosis

    def run(self, *, is_rate_known: bool) -> list[Trial]:
        """Undo what the evidence suggests, the most specific first; then try other learning rates."""
        evidence, tried = self.seen.evidence, []
        stages = [judge(replace(evidence, records=evidence.records[:count])) for count in _STAGES]
        for remedy in remedies_for(self.patient, evidence, self.diagnosis):
            family = family_of(remedy, [*stages, self.diagnosis])
            if family is not None:
                is_late = family not in {finding.family for stage in stages for finding in stage.findings}
                tried.append(self._try(remedy, family, is_late=is_late))
                if tried[-1].counts and self.seen.score.share + tried[-1].gain > _AS_GOOD_AS_IT_GETS:
                    return tried
        for direction in rate_remedies(evidence) if self.diagnosis.findings and is_rate_known else ():
            loss = self.seen.score.loss
            for remedy in direction:
                tried.append(self._try(remedy, "learning_rate"))
                if not tried[-1].loss < loss and loss == loss:
                    break
                loss = tried[-1].loss
        return tried

    def _try(self, remedy: Remedy, family: str, *, is_late: bool = False) -> Trial:
        twin = self.patient.copy()
        remedy.apply(twin, self.data)
        norms = train(twin, self.data, self.loss_fn).norms
        if remedy.finish is not None:
            remedy.finish(twin, self.data)
        before, after = self.seen.score, score(twin.model, self.judged, self.loss_fn)
        found = [finding for finding in self.diagnosis.findings if finding.family == family]
        ratio = after.loss / before.loss if before.loss == before.loss and before.loss > 0 else 0.0
        gain = after.share - before.share
        clear = any(map(is_clear, found))
        return Trial(remedy, family, bool(found), clear, is_late, gain, after.loss, ratio, _is_calm(norms))


def _cause(tried: Sequence[Trial]) -> Trial | None:
    """The most specific of the treatments that helped nearly as much as the best."""
    best = max((trial.gain for trial in tried if trial.counts), default=0.0)
    helped = [trial for trial in tried if trial.counts and trial.gain >= _NEARLY_BEST * best]
    steps = [trial for trial in helped if trial.family in {"learning_rate", "oscillation"} and trial.is_calm]
    if steps and helped[0].is_late:
        return steps[0]  # what came while training, and goes with other steps, came of the steps
    return helped[0] if helped else None


def _is_calm(norms: Sequence[float]) -> bool:
    later = [norm for norm in norms[5:] if norm == norm]
    return bool(later) and max(later) < _CALM * median(later)


def _told(
    diagnosis: Diagnosis, trial: Trial | None, cause: str | None, tried: AbstractSet[str] = frozenset()
) -> Diagnosis:
    """Findings of the cause become issues, with the proof; what no trial confirmed is a tip, and a tip has passed."""
    findings: list[Finding] = []
    code = trial.remedy.code if trial is not None else None
    for finding in diagnosis.findings:
        if finding.family == cause and code in (None, finding.code):
            proof = f" Undone ({trial.remedy.name}), the score rises by {trial.gain:.0%}." if trial else ""
            findings.append(replace(finding, outcome="issue", why=finding.why + proof))
        elif finding.outcome == "issue" and finding.code not in _CERTAIN:
            why = f"{finding.why} Undoing it did not help here."
            findings.append(replace(finding, outcome="tip", why=why))
        elif finding.outcome == "tip" and finding.family in tried and finding.code not in _CERTAIN:
            findings.append(replace(finding, outcome="passed", why=f"{finding.why} Undoing it did not help here."))
        else:
            findings.append(finding)
    if trial is not None and not any(finding.family == cause and finding.outcome == "issue" for finding in findings):
        about = next(rule.ABOUT for rule in RULES if rule.ABOUT.family == cause and code in (None, rule.ABOUT.code))
        why = f"With {trial.remedy.name} the score rises by {trial.gain:.0%}."
        findings.append(replace(about.issue(why, trial.gain, _GAIN), advice=trial.remedy.name + "."))
    return diagnosis_of([*findings, *diagnosis.passed], cause)


def _default_optimizer(model: nn.Module) -> Optimizer:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise DataError(
            what="The model has nothing to train: every parameter is frozen.", where=type(model).__name__,
            received=f"{sum(1 for _ in model.parameters())} parameters, none of which requires gradients",
            do="frostline.thaw(model) some of its layers, or check the module that trains.",
        )  # fmt: skip
    return torch.optim.AdamW(trainable, lr=1e-3)
