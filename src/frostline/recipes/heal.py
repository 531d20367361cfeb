"""Heal: try treatments from one snapshot on the same batches, keep the best that proves itself, go on training.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from frostline.core.records import Diagnosis, Healing, Treatment
from frostline.health import Monitor, Patient, Score, diagnosis_of, judge, score, train
from frostline.recipes.observing import as_batches, finite_rows, observe
from frostline.recipes.treatments import Remedy, family_of, is_clear, rate_remedies, remedies_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.recipes.observing import Batch, Observation

_PROBE = 0.12  # of the batches: the length of a trial
_FEWEST_STEPS = 30
_NEARLY = 0.1  # of what the best treatment takes off the loss: the most specific of those within it is kept
_SAMPLES = 12  # of the probe, and of the rest: what a sample of small networks costs is half a step
_MOST_TRIALS = 5  # with the probe of the untreated network they cost what six tenths of the training do
_MOST_JUDGED = 20  # held-out batches that a trial is judged by
# A treatment is kept if the held-out loss is that much lower, and more answers are right; Tuned on the exam's tuning
# part. Where no rule found a clear symptom, more is asked.
_CLEAR, _TIP = 0.9, 0.75
_GAIN, _GAIN_OF_TIPS = 0.0, 0.05


@dataclass
class _Try:
    remedy: Remedy | None
    family: str
    is_clear: bool
    patient: Patient
    score: Score

    def beats(self, other: _Try) -> bool:
        """True if the treatment is clearly better than none."""
        if math.isnan(self.score.loss):
            return False
        if math.isnan(other.score.loss):
            return True
        limit, gain = (_CLEAR, _GAIN) if self.is_clear else (_TIP, _GAIN_OF_TIPS)
        return self.score.loss < limit * other.score.loss and self.score.share >= other.score.share + gain


def heal(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor], optimizer: Optimizer
) -> Healing:
    """Train a network, and cure it on the way if it is sick.

    A copy is trained on the first batches under watch. If rules find symptoms, treatments are tried from the same
    start on the same batches, in the order that the evidence suggests; one is kept only if held-out loss and answers
    are clearly better and the training is finite. Everything else is rolled back: it never touched your model. Then
    training goes on to the last batch. A network without symptoms is trained as it is.

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
    own = Patient(model, optimizer)
    probe = rest[: min(max(_FEWEST_STEPS, round(_PROBE * len(data))), max(1, len(rest) - 1))]
    untreated = own.copy()
    seen = observe(untreated, probe, judged, loss_fn, samples=_SAMPLES)
    before = judge(seen.evidence)
    base = _Try(None, "", False, untreated, seen.score)
    tried = _try_all(own, base, seen, before, probe, judged, loss_fn)
    best = _best(base, tried)
    num_skipped, after = _train_on(best, rest[len(probe) :], loss_fn)
    _finish(best, rest, judged, loss_fn)
    _take_over(own, best, rest)
    treatments = [_told(one, base, is_kept=one is best) for one in tried]
    if num_skipped:
        treatments.append(_told_skips(num_skipped, best, judged, loss_fn))
    cause = best.family or None
    return Healing(
        accepted=any(treatment.kept for treatment in treatments),
        treatments=tuple(treatments),
        before=diagnosis_of([*before.findings, *before.passed], cause),
        after=after,
        loss_before=base.score.loss,
        loss_after=score(model, judged, loss_fn).loss,
    )


def _try_all(
    own: Patient, base: _Try, seen: Observation, before: Diagnosis, probe: Sequence[Batch], judged: Sequence[Batch],
    loss_fn: Callable[[Any, Any], Tensor],
) -> list[_Try]:  # fmt: skip
    """Treatments that the findings suggest, most specific first; then other learning rates, in the way that helps."""
    clear = {finding.family for finding in before.findings if is_clear(finding)}
    seen_families = {finding.family for finding in before.findings}
    if not seen_families or "loss_mismatch" in clear:
        return []
    start = judge(replace(seen.evidence, records=seen.evidence.records[:1]))
    tried: list[_Try] = []
    for remedy in remedies_for(own, seen.evidence, before):
        family = family_of(remedy, [start, before, before])
        if family is not None and len(tried) < _MOST_TRIALS:
            tried.append(_try(own, remedy, family, probe, judged, loss_fn, is_clear=family in clear))
    codes = {finding.code for finding in before.findings}
    slower, faster = rate_remedies(seen.evidence) or ((), ())
    reached = base.score.loss
    for remedy in (
        slower if codes & {"FL401", "FL403", "FL502", "FL103", "FL201"} else faster if "FL402" in codes else ()
    ):
        if len(tried) >= _MOST_TRIALS + 1:
            break
        tried.append(_try(own, remedy, "learning_rate", probe, judged, loss_fn, is_clear="learning_rate" in clear))
        if not tried[-1].score.loss < reached and reached == reached:
            break
        reached = tried[-1].score.loss
    return tried


def _best(base: _Try, tried: Sequence[_Try]) -> _Try:
    """The most specific of the treatments that are nearly as good as the best; the untreated one if none is better."""
    helped = [one for one in tried if one.beats(base)]
    if not helped:
        return base
    lowest, untreated = min(one.score.loss for one in helped), base.score.loss
    limit = lowest + _NEARLY * (untreated - lowest) if math.isfinite(untreated) else lowest / _NEARLY
    return next(one for one in helped if one.score.loss <= max(limit, lowest))


def _try(
    own: Patient, remedy: Remedy, family: str, probe: Sequence[Batch], judged: Sequence[Batch],
    loss_fn: Callable[[Any, Any], Tensor], *, is_clear: bool,
) -> _Try:  # fmt: skip
    twin = own.copy()
    remedy.apply(twin, probe)
    train(twin, probe, loss_fn, measures=False, skips_nonfinite=True)
    return _Try(remedy, family, is_clear, twin, score(twin.model, judged, loss_fn))


def _train_on(best: _Try, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> tuple[int, Diagnosis]:
    """Train the chosen one to the end; steps left out, and what the rules say about it."""
    with Monitor(best.patient.model, best.patient.optimizer, every=max(1, len(data) // _SAMPLES)) as monitor:
        course = train(best.patient, data, loss_fn, monitor=monitor, seed=1, skips_nonfinite=True)
    return course.num_skipped, monitor.diagnosis


def _finish(best: _Try, rest: Sequence[Batch], judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> None:
    if best.remedy is not None and best.remedy.finish is not None:
        best.remedy.finish(best.patient, rest)
    best.score = score(best.patient.model, judged, loss_fn)


def _take_over(own: Patient, best: _Try, data: Sequence[Batch]) -> None:
    """Give the caller's own model and optimizer what the chosen copy has become."""
    if best.remedy is not None:
        best.remedy.apply(own, data[:1])
    own.model.load_state_dict(best.patient.model.state_dict())
    own.optimizer.load_state_dict(best.patient.optimizer.state_dict())
    clip = best.patient.clip
    if clip is not None:

        def limit(*_: object) -> None:  # a hook that returns something would replace the arguments of the step
            clip(own.parameters)

        own.optimizer.register_step_pre_hook(limit)


def _told(one: _Try, base: _Try, *, is_kept: bool) -> Treatment:
    verb = "kept" if is_kept else "rolled back"
    why = f"{verb}: held-out loss {one.score.loss:.3g} against {base.score.loss:.3g} untreated."
    return Treatment(one.remedy.name if one.remedy else "none", one.family, is_kept, one.score.loss, (), why)


def _told_skips(count: int, best: _Try, judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> Treatment:
    loss = score(best.patient.model, judged, loss_fn).loss
    return Treatment(
        "leave out steps that are not finite", "nonfinite", True, loss, (), f"{count} steps were left out."
    )
