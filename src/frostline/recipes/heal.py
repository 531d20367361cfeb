"""Heal: try treatments from one snapshot on the same batches, keep one that proves itself, go on training.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from frostline.core.records import Diagnosis, Healing, Treatment
from frostline.health import Monitor, Patient, Score, diagnosis_of, judge, score, train
from frostline.recipes.examination import Examination, as_batches, examine, finite_rows
from frostline.remedies import clip_by_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.recipes.examination import Batch, Suspicion, Trial

_PROBE, _FEWEST_STEPS = 0.12, 30  # the length of a trial: of the batches, and at least
_SAMPLES = 5  # of the probe and of the rest: of small networks, one costs what three steps do
_WATCHED = 6  # steps after a trial that helped, in which the rules are asked again; they belong to the training
_LAST = 20  # steps in which the rules look at what came of it
_TRIALS, _FEWEST_TRIALS = 0.4, 4  # steps of trials over those of the training; trials that are allowed in any case
_MOST_JUDGED = 20  # held-out batches that a trial is judged by
_NO_LIMIT = 1e30  # a clip at it does nothing but leave out steps that are not finite
_NEARLY = 0.1  # of what the best treatment takes off the loss: the most specific of those within it is kept
# A treatment is kept if the held-out loss is so much lower, and the share of right answers is higher by so much and by
# so many of its standard errors. Where a rule found an issue, and it goes, a little is enough: of the exam's healthy
# networks 3 in 100 have one. Tuned on the exam's tuning part.
_GREAT = 0.6  # of the loss without treatment: nothing else needs to be tried
_OF_ISSUES, _OF_TIPS = (0.98, -1.0, -1.0), (0.96, 0.04, 2.0)


@dataclass
class _Course:
    """One way to train: untreated, or with a treatment.

    Attributes:
        patient: Where the training stands.
        score: Held-out, after the probe.
        steps: Taken so far.
        num_skipped: Steps left out because something was not finite.
        trial: The treatment; None without.
        issues: Codes of the issues that were left, of a treatment that helped.
        standing: Those of them that speak against the treatment.
    """

    patient: Patient
    score: Score
    steps: int
    num_skipped: int = 0
    trial: Trial | None = None
    issues: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()


def heal(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor], optimizer: Optimizer
) -> Healing:
    """Train a network, and cure it on the way if it is sick.

    A copy is trained on the first batches under watch. If rules find symptoms, treatments are tried from the same
    start on the same batches, in the order that the evidence suggests. One is kept only if held-out loss and answers
    are clearly better, the issue is gone and no new one has come; the first such is, where its symptom is clear.
    Everything else is rolled back: it never touched your model. Then training goes on from there to the last batch.
    A network without symptoms, or one that learns and has no more than tips, is trained as it is.

    On return the model and the optimizer, changed in place, have trained once on the first four fifths of the batches
    and can go on: a cure for inputs is a layer of the model, a threshold for gradients a hook on the optimizer's step.

    Args:
        model: Trained in place.
        batches: A finite iterable of `(inputs, target)`, kept in memory; the last fifth is held out.
        loss_fn: callable(output, target) -> scalar. A loss that does not fit is named, and left to you.
        optimizer: Over the model's parameters; its learning rate and momentum may be changed.

    Returns:
        What was tried, kept and rolled back, with the diagnosis before and after.

    Raises:
        DataError: As `checkup`.
    """
    data = as_batches(batches, model, None)
    count = max(1, len(data) // 5)
    rest, judged = data[:-count], finite_rows(data[-count:])[:_MOST_JUDGED]
    probe = rest[: min(max(_FEWEST_STEPS, round(_PROBE * len(data))), max(1, len(rest) - 1))]
    own = Patient(model, optimizer)
    seen, untreated = examine(own, probe, judged, loss_fn, samples=_SAMPLES, skips_nonfinite=True)
    base = _Course(untreated, seen.seen.score, len(probe))
    doubtful = seen.of_issues if seen.is_learning else seen  # of a network that learns, a tip is no sickness
    tried = [] if seen.is_misfit else _try_all(doubtful, base, rest)
    best = _best(base, tried)
    after = _go_on(best, rest, loss_fn)
    _take_over(own, best, rest)
    treatments = [_told(one, base, is_kept=one is best) for one in tried]
    last = score(model, judged, loss_fn)
    if best.num_skipped:
        treatments.append(_told_skips(best, last))
    cause = best.trial.suspicion.family if best.trial is not None else None
    return Healing(
        accepted=any(treatment.kept for treatment in treatments),
        treatments=tuple(treatments),
        before=diagnosis_of([*seen.diagnosis.findings, *seen.diagnosis.passed], cause),
        after=after,
        loss_before=base.score.loss,
        loss_after=last.loss,
    )


def _try_all(seen: Examination, base: _Course, rest: Sequence[Batch]) -> list[_Course]:
    """Trials in the order of the evidence, until a clear symptom is cured or the time for trials is spent."""
    most = max(_FEWEST_TRIALS, round(_TRIALS * len(rest) / len(seen.data)))
    tried: list[_Course] = []
    for line in _lines(seen):
        reached = base.score.loss
        for suspicion in line:
            if len(tried) >= most:
                return tried
            tried.append(_try(seen, suspicion, base, rest))
            if _is_cured(tried[-1], base) and (suspicion.is_clear or tried[-1].score.loss < _GREAT * base.score.loss):
                return tried
            if not tried[-1].score.loss < reached and reached == reached:
                break
            reached = tried[-1].score.loss
    return tried


def _lines(seen: Examination) -> list[list[Suspicion]]:
    """What is tried, each line as long as it helps: what was there at the start, then what came while training.

    Clear symptoms come before tips; what came while training may have come of the steps, so these are tried first.
    """
    found = seen.suspicions()
    slower, faster = seen.rates(both=False)
    early = [[one] for one in found if not one.is_late]
    late = [slower, *([one] for one in found if one.is_late), faster[::-1]]
    lines = [line for line in [*early, *late] if line]
    return sorted(lines, key=lambda line: not line[0].is_clear)


def _try(seen: Examination, suspicion: Suspicion, base: _Course, rest: Sequence[Batch]) -> _Course:
    """A trial; where it helped, the rules are asked again over the next steps of that training."""
    trial = seen.attempt(suspicion)
    own = trial.patient or base.patient
    course = _Course(own, trial.score, len(seen.data), trial.course.num_skipped, trial)
    if not _helps(course, base):
        return course
    part = rest[course.steps : course.steps + _WATCHED]
    findings = _watched(course, part, seen.loss_fn, every=2).findings
    course.issues = tuple(dict.fromkeys(finding.code for finding in findings if finding.outcome == "issue"))
    known = {finding.code for finding in seen.diagnosis.findings if finding.outcome == "issue"}
    treated = {finding.code for finding in seen.diagnosis.findings if finding.family == suspicion.family}
    course.standing = tuple(code for code in course.issues if code in treated or code not in known)
    return course


def _helps(one: _Course, base: _Course) -> bool:
    """True if held-out loss and answers are clearly better than without."""
    if one.trial is None or math.isnan(one.score.loss):
        return False
    if math.isnan(base.score.loss):
        return True
    ratio, gain, errors = _OF_ISSUES if one.trial.suspicion.is_issue else _OF_TIPS
    return one.trial.loss_ratio < ratio and one.trial.gain >= max(gain, errors * one.trial.error)


def _is_cured(one: _Course, base: _Course) -> bool:
    """True if it helps, the issue that it treats is gone, and no other has come."""
    return _helps(one, base) and not one.standing


def _best(base: _Course, tried: Sequence[_Course]) -> _Course:
    """The most specific of the treatments that are nearly as good as the best; the untreated one if none cures."""
    cured = [one for one in tried if _is_cured(one, base)]
    if not cured:
        return base
    lowest, untreated = min(one.score.loss for one in cured), base.score.loss
    limit = lowest + _NEARLY * (untreated - lowest) if math.isfinite(untreated) else lowest / _NEARLY
    return next(one for one in cured if one.score.loss <= max(limit, lowest))


def _watched(
    course: _Course, part: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], *, every: int
) -> Diagnosis:  # fmt: skip
    """Train on; what the rules say about it."""
    own = course.patient
    with Monitor(own.model, own.optimizer, every=every, budget=math.inf) as monitor:
        seen = train(own, part, loss_fn, monitor=monitor, seed=course.steps, measures=False, skips_nonfinite=True)
    course.num_skipped += seen.num_skipped
    records = tuple(replace(record, step=record.step + course.steps) for record in monitor.records)
    course.steps += len(part)
    evidence = replace(monitor.evidence, records=records)
    if course.trial is not None and course.trial.suspicion.family == "input_scale":
        evidence = replace(evidence, inputs=None)  # what the monitor saw comes before the layer that scales it
    return judge(evidence)


def _go_on(best: _Course, rest: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> Diagnosis:
    """Train the chosen one to the end; what the rules say about its last steps."""
    last = max(best.steps, len(rest) - _LAST)
    part = rest[best.steps : last]
    course = train(best.patient, part, loss_fn, seed=best.steps, measures=False, skips_nonfinite=True)
    best.num_skipped += course.num_skipped
    best.steps = last
    after = _watched(best, rest[last:], loss_fn, every=_LAST // _SAMPLES + 1)
    if best.trial is not None and best.trial.suspicion.remedy.finish is not None:
        best.trial.suspicion.remedy.finish(best.patient, rest)
    return after


def _take_over(own: Patient, best: _Course, data: Sequence[Batch]) -> None:
    """Give the caller's own model and optimizer what the chosen copy has become."""
    if best.trial is not None and best.trial.suspicion.remedy.is_structural:
        best.trial.suspicion.remedy.apply(own, data[:1])
    own.model.load_state_dict(best.patient.model.state_dict())
    own.optimizer.load_state_dict(best.patient.optimizer.state_dict())
    clip = best.patient.clip or (clip_by_norm(_NO_LIMIT) if best.num_skipped else None)
    if clip is not None:

        def limit(*_: object) -> None:  # a hook that returns something would replace the arguments of the step
            clip(own.parameters)

        own.optimizer.register_step_pre_hook(limit)


def _told(one: _Course, base: _Course, *, is_kept: bool) -> Treatment:
    assert one.trial is not None
    suspicion, numbers = one.trial.suspicion, f"held-out loss {one.score.loss:.3g} against {base.score.loss:.3g}"
    if is_kept:
        why = f"kept: {numbers} untreated, and the rules find no issue of it any more."
    elif one.trial.failure:
        why = f"rolled back: {one.trial.failure}."
    elif one.standing:
        why = f"rolled back: {numbers} untreated, but {', '.join(one.standing)} stands or is new."
    else:
        why = f"rolled back: {numbers} untreated."
    return Treatment(suspicion.remedy.name, suspicion.family, is_kept, one.score.loss, one.issues, why)


def _told_skips(best: _Course, last: Score) -> Treatment:
    why = f"{best.num_skipped} steps were left out."
    return Treatment("leave out steps that are not finite", "nonfinite", True, last.loss, (), why)
