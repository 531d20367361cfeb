"""A checkup: train a copy, let the rules look for symptoms, and undo one factor at a time to find the cause.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.errors import DataError
from frostline.core.records import Diagnosis, Finding
from frostline.health import Patient, diagnosis_of, score, train
from frostline.health.rules import RULES
from frostline.recipes.examination import BATCHNORM, Examination, as_batches, examine, held_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.recipes.examination import Batch, Trial

# What is asked of a treatment: the gain in share of right answers (or of explained variance), and the standard errors
# that it must be away from zero, in the trial and over both trials together. Of the exam's healthy networks 3 in 100
# have a clear symptom, half have a tip, and another learning rate helps a little nearly everywhere: the weaker the
# evidence, the more is asked. Tuned on the exam's tuning part.
_OF_CLEAR, _OF_TIPS, _OF_NONE = (0.02, 0.0, 1.5), (0.07, 1.6, 2.5), (0.12, 2.0, 3.0)
_AS_GOOD_AS_IT_GETS = 0.97  # right answers: what comes later can hardly do better, and is less specific
_NEARLY_BEST = 0.75  # of the largest gain: the most specific of those is the cause
_OF_STEPS = frozenset({"learning_rate", "oscillation"})
_CERTAIN = frozenset({"FL502", "FL503", "FL504"})  # what needs no trial


@dataclass(frozen=True)
class _Proof:
    """A treatment that helped, and helped again."""

    trial: Trial
    before: float
    gain: float

    def __str__(self) -> str:
        after = self.before + self.trial.gain
        why = f"the score on held-out samples goes from {self.before:.0%} to {after:.0%}"
        return f"{why}; twice, by {self.gain:.0%} on average."


def checkup(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor],
    optimizer: Optimizer | None = None, *, steps: int | None = None,
) -> Diagnosis:  # fmt: skip
    """Find what keeps a network from training, on a copy: symptoms by layer, and the cause by trial.

    The copy trains on the batches while every layer is measured. What the rules suspect is then undone, one factor at
    a time, from the same start on the same batches: a suspicion is an issue only if that makes the network clearly
    better, twice, and the cause is the most specific factor that does. Your model, optimizer, generators and modes are
    left as they are. It takes the time of one training on the batches for each factor that is tried, and of two more
    for the one that helps.

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
        DataError: If there are no batches or fewer than `steps`, nothing trains, the optimizer holds other parameters,
            or the loss is not a scalar that depends on the model.
    """
    whole = as_batches(batches, model, steps)
    data, judged = held_out(whole)
    patient = Patient(model, optimizer or _default_optimizer(model))
    seen = examine(patient, data, judged, loss_fn, whole=whole)
    if seen.is_misfit:
        return _told(seen.diagnosis, None, "loss_mismatch")
    tried = _try_all(seen, is_rate_known=optimizer is not None)
    proof = _prove(seen, tried, whole)
    families = {trial.suspicion.family for trial in tried}
    return _told(seen.diagnosis, proof, proof.trial.suspicion.family if proof is not None else None, families)


def _try_all(seen: Examination, *, is_rate_known: bool) -> list[Trial]:
    """Undo what the evidence suggests, the most specific first; then try other learning rates."""
    tried: list[Trial] = []
    suspicions = seen.suspicions()
    for suspicion in (one for one in suspicions if one.has_symptom):
        tried.append(seen.attempt(suspicion))
        is_good = _counts(tried[-1]) and tried[-1].score.share > _AS_GOOD_AS_IT_GETS
        if is_good and suspicion.is_clear and not suspicion.is_late:
            return tried
    is_suspect = bool(seen.diagnosis.findings) or seen.is_stuck
    for direction in seen.rates(both=True) if is_suspect and is_rate_known else ():
        reached = seen.seen.score.loss
        for suspicion in direction:
            tried.append(seen.attempt(suspicion))
            if not tried[-1].score.loss < reached and reached == reached:
                break
            reached = tried[-1].score.loss
    if not any(map(_counts, tried)):
        tried += [seen.attempt(one) for one in suspicions if not one.has_symptom]
    return tried


def _demand(trial: Trial) -> tuple[float, float, float]:
    """(gain, standard errors, standard errors over both trials) that are asked of a treatment."""
    if not trial.suspicion.has_symptom:
        return _OF_NONE
    return _OF_CLEAR if trial.suspicion.is_clear else _OF_TIPS


def _counts(trial: Trial) -> bool:
    """True if the network is clearly better with it, in answers and in loss."""
    gain, errors, _ = _demand(trial)
    asked = 0.0 if trial.suspicion.is_clear else gain  # the second trial has the word
    return trial.gain > max(asked, errors * trial.error) and trial.loss_ratio < 1.0


def _prove(seen: Examination, tried: Sequence[Trial], whole: Sequence[Batch]) -> _Proof | None:
    """The most specific treatment that helps nearly as much as the best, on other samples in another order as well."""
    left = [trial for trial in tried if _counts(trial)]
    base: Any = None
    again, judged = held_out(list(reversed(whole)), fold=1)
    while left:
        trial = _most_specific(left)
        if math.isnan(seen.seen.score.loss):
            return _Proof(trial, seen.seen.score.share, trial.gain)  # from nothing to something: no luck does that
        if base is None:
            twin = seen.patient.copy()
            train(twin, again, seen.loss_fn, seed=1, measures=False)
            base = score(twin.model, judged, seen.loss_fn)
        other = replace(seen, data=again, judged=judged, seen=replace(seen.seen, score=base), seed=1)
        second = other.attempt(trial.suspicion)
        gain, error = (trial.gain + second.gain) / 2, math.hypot(trial.error, second.error) / 2
        demand, _, errors = _demand(trial)
        if second.gain > 0 and gain >= demand and gain > errors * error:
            return _Proof(trial, seen.seen.score.share, gain)
        left.remove(trial)
    return None


def _most_specific(helped: Sequence[Trial]) -> Trial:
    """Of the treatments that helped nearly as much as the best: the first, which is the most specific."""
    best = max(trial.gain for trial in helped)
    near = [trial for trial in helped if trial.gain >= _NEARLY_BEST * best]
    steps = [trial for trial in near if trial.suspicion.family in _OF_STEPS and trial.is_calm]
    early = [trial for trial in near if not trial.suspicion.is_late and trial.suspicion.family not in _OF_STEPS]
    if any(trial.suspicion.family == "input_scale" for trial in near):  # inputs come first, and bring other symptoms
        return max((t for t in near if t.suspicion.remedy.identity != BATCHNORM), key=lambda trial: trial.gain)
    if near[0].suspicion.is_late and (steps or early):  # what came while training came of the steps or of the start
        return max(steps + early, key=lambda trial: trial.gain)
    return near[0]


def _told(
    diagnosis: Diagnosis, proof: _Proof | None, cause: str | None, tried: AbstractSet[str] = frozenset()
) -> Diagnosis:
    """Findings of the cause become issues, with the proof; what no trial confirmed is a tip, and a tip has passed."""
    findings: list[Finding] = []
    code = proof.trial.suspicion.remedy.code if proof is not None else None
    for finding in diagnosis.findings:
        if finding.family == cause and code in (None, finding.code):
            why = f" Undone ({proof.trial.suspicion.remedy.name}), {proof}" if proof is not None else ""
            findings.append(replace(finding, outcome="issue", why=finding.why + why))
        elif finding.outcome == "issue" and finding.code not in _CERTAIN:
            told = "Undoing it did not help here." if finding.family in tried else "It was not undone on its own."
            findings.append(replace(finding, outcome="tip", why=f"{finding.why} {told}"))
        elif finding.outcome == "tip" and finding.family in tried and finding.code not in _CERTAIN:
            findings.append(replace(finding, outcome="passed", why=f"{finding.why} Undoing it did not help here."))
        else:
            findings.append(finding)
    if proof is not None and not any(finding.family == cause and finding.outcome == "issue" for finding in findings):
        about = next(rule.ABOUT for rule in RULES if rule.ABOUT.family == cause and code in (None, rule.ABOUT.code))
        name = proof.trial.suspicion.remedy.name
        why = f"with {name}, {proof}"
        findings.append(replace(about.issue(why, proof.gain, _demand(proof.trial)[0]), advice=name + "."))
    return diagnosis_of([*findings, *diagnosis.passed], cause)


def _default_optimizer(model: nn.Module) -> Optimizer:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise DataError(
            what="The model has nothing to train: every parameter is frozen.", where=type(model).__name__,
            received=f"{sum(1 for _ in model.parameters())} parameters, none of which requires gradients",
            do="frostline.thaw(model) some of its layers, or check the module that trains.",
        )  # fmt: skip
    is_half = any(parameter.dtype == torch.float16 for parameter in trainable)
    return torch.optim.AdamW(trainable, lr=1e-3, eps=1e-4 if is_half else 1e-8)  # 1e-8 is zero in float16
