"""A checkup: train a copy, let the rules look for symptoms, and undo one factor at a time to find the cause.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from frostline.core.arguments import as_count, as_number, check_flag
from frostline.core.doors import public
from frostline.core.layers import default_dtype_of
from frostline.core.restore import default_dtype, kept_generators
from frostline.diagnosis import Patient
from frostline.diagnosis.experiments import (
    BATCHNORM,
    Examination,
    as_batches,
    as_stepped,
    budget_for,
    check_given,
    counts,
    examine,
    held_out,
    named_as_given,
    num_epochs,
    prove,
    reported,
    takes_fewer_rows,
    usual_optimizer,
)
from frostline.splitting import KeptPlaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments import Suspicion, Trial

_AS_GOOD_AS_IT_GETS = 0.97  # right answers: what comes later can hardly do better, and is less specific
_LITTLE = 0.5  # of the loss of the constant-prediction baseline; below it other rates are tried, whatever the symptoms
_FEWEST = 20  # batches, after which another rate says something about the whole training
_PROOF = 3  # trainings for which a first trial needs room: itself, and a repeat with and without the treatment


@public("checkup")
def checkup(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor] | None = None,
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer] | None = None, *,
    step: Callable[[Any, Any], Tensor] | None = None, steps: int | None = None, epochs: float | None = None,
    accumulation: int = 1, scaler: Any = None, budget: float | None = None, progress: bool = True,
) -> Diagnosis:  # fmt: skip
    """Find what keeps a network from training, on a copy: symptoms by layer, and the cause by trial.

    The copy trains on the batches while every layer is measured. What the rules suspect is then undone, one factor at
    a time, from the same start on the same batches: a suspicion is an issue only if that makes the network clearly
    better, on other held-out samples as well, and the cause is the most specific factor that does. Your model,
    optimizer, generators and modes are left as they are.

    It takes at most the time of three epochs of training (or 20 seconds, where that is longer): copies train on fewer
    batches if need be, and experiments for which no time is left are listed as not judged. Ctrl-C ends it as well:
    the first one returns what is known by then.

    Args:
        model: As it is before training, or anywhere in it.
        batches: A finite iterable of `(inputs, target)`, three epochs of a loader or more:
            `[batch for _ in range(3) for batch in loader]`. In less a larger learning rate is ahead in healthy networks
            as well, so that none is called too low. With `step`, whatever that takes.
        loss_fn: callable(output, target) -> scalar.
        step: In place of `loss_fn`: callable(model, batch) -> loss, what your loop does up to `loss.backward()`. It
            gets copies of your model, and must use these. Several networks are one `nn.ModuleDict`. What outputs and
            targets are is not known then, so that rules about these are not judged.
        optimizer: The one that you train with; its settings, state and hooks before the step are copied. Or
            callable(parameters) that makes one. None takes AdamW at 1e-3, and the learning rate is not judged.
        steps: Use only so many batches.
        epochs: How many epochs the batches are. None counts how often the same inputs come again; say it where
            augmentation changes them each time, or where a stream never repeats any.
        accumulation: Batches whose gradients make one step of yours; their mean is taken.
        scaler: Your `torch.amp.GradScaler`, copied. Call `checkup` inside of your `torch.autocast`.
        budget: Seconds that it may take, once the batches are read; None as above. More seconds judge more.
        progress: Lines on standard error about what is tried, and how long it takes; none if that is a few seconds.

    Returns:
        Issues and tips, most severe first, each with its evidence; the cause if there is one; what could not be judged.

    Raises:
        DataError: If there are no batches or fewer than `steps`, nothing trains, the optimizer holds other parameters,
            both a loss and a step are given or neither is, or the loss is not a scalar that depends on the model.
    """
    given = model
    model, batches, loss_fn = as_stepped(model, batches, loss_fn, step)
    check_given(model, batches, loss_fn, "checkup", scaler)
    accumulation = as_count("checkup", "accumulation", accumulation)
    epochs = as_number("checkup", "epochs", epochs, above=0) if epochs is not None else None
    steps = as_count("checkup", "steps", steps) if steps is not None else None
    budget = as_number("checkup", "budget", budget, above=0) if budget is not None else None
    tell = _tell if check_flag("checkup", "progress", progress) else None
    with KeptPlaces(model).kept():  # a copy of the model shares what it keeps in globals and classes
        found = _found(model, batches, loss_fn, optimizer, steps, epochs, accumulation, scaler, budget, tell)
    return found if step is None else named_as_given(found, given)


def _found(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor], optimizer: Any,
    steps: int | None, epochs: float | None, accumulation: int, scaler: Any, budget: float | None,
    tell: Callable[[str], None] | None,
) -> Diagnosis:  # fmt: skip
    """What is found of a model by its loss."""
    with default_dtype(default_dtype_of(model)):  # what is made on the way fits the model, whatever the caller makes
        with kept_generators():  # a loader that shuffles draws
            whole = as_batches(batches, model, steps)
        patient = Patient(model, usual_optimizer(model, optimizer), accumulation=accumulation, scaler=scaler)
        divides = takes_fewer_rows(patient.copy().model, whole[0], loss_fn)
        data, judged = held_out(whole, divides=divides)
        count = num_epochs(whole) if epochs is None else epochs
        own = budget_for(patient, data, loss_fn, per_epoch=len(whole) / max(count, 1.0), seconds=budget, tell=tell)
        part = data[: own.most]
        share = len(part) / len(data)
        seen = examine(
            patient, part, judged, loss_fn, whole=whole, epochs=count * share, budget=own, divides=divides
        )  # fmt: skip
        seen = seen.with_order()
        is_rate_known = optimizer is not None
        if seen.certain_cause is not None:
            return reported(seen.diagnosis, None, seen.certain_cause, is_rate_known=is_rate_known)
        tried = _try_all(seen, is_rate_known=is_rate_known)
        proof = prove(seen, tried, whole)
        if proof is None:
            both = [seen.attempt(pair, trainings=_PROOF) for pair in seen.pairs(tried)]
            proof, tried = prove(seen, both, whole), [*tried, *both]
        if proof is None:
            seen = seen.with_memory_test().with_counterparts(is_rate_known=is_rate_known)
        cause = proof.trial.suspicion.family if proof is not None else None
        return reported(seen.diagnosis, proof, cause, tried, seen.start, is_rate_known=is_rate_known, budget=own)


def _tell(line: str) -> None:
    sys.stderr.write(f"checkup: {line}\n")


def _try_all(seen: Examination, *, is_rate_known: bool) -> list[Trial]:
    """Undo what the evidence suggests, the most specific first; then try other learning rates."""
    tried: list[Trial] = []
    suspicions = seen.suspicions()
    if seen.is_short:  # what is faster at first is ahead in healthy networks as well
        suspicions = [one for one in suspicions if one.is_clear]
    is_rate_known = is_rate_known and (seen.num_steps >= _FEWEST or seen.has_large_steps)
    is_rate_first = is_rate_known and seen.has_large_steps and seen.budget.is_cut
    if is_rate_first:  # there is no time for all, and this is most likely
        tried += _along(seen, seen.rates(both=True)[0])
        if any(map(counts, tried)):
            return tried
    for suspicion in (one for one in suspicions if one.has_symptom):
        tried.append(seen.attempt(suspicion, trainings=_PROOF))
        is_good = counts(tried[-1]) and tried[-1].score.share > _AS_GOOD_AS_IT_GETS
        is_specific = suspicion.is_clear and not suspicion.is_late and suspicion.remedy.identity != BATCHNORM
        if is_good and is_specific:
            return tried
    skill = seen.seen.score.skill
    is_suspect = bool(seen.diagnosis.findings) or seen.is_stuck or (skill is not None and skill < _LITTLE)
    for at, direction in enumerate(seen.rates(both=True) if is_suspect and is_rate_known else ()):
        is_tried = at == 0 and is_rate_first
        if not is_tried and (at < 2 or not any(map(counts, tried))):
            tried += _along(seen, direction)
    if not any(map(counts, tried)):
        tried += [seen.attempt(one, trainings=_PROOF) for one in suspicions if not one.has_symptom]
    return tried


def _along(seen: Examination, direction: list[Suspicion]) -> list[Trial]:
    """Learning rates further and further away, until the loss gets no lower; a symptom is followed a step longer."""
    tried: list[Trial] = []
    reached, patience = seen.seen.score.loss, 1
    for suspicion in direction:
        tried.append(seen.attempt(suspicion, trainings=_PROOF))
        if reached == reached and not tried[-1].score.loss < reached:
            if not suspicion.has_symptom or not patience:
                break
            patience -= 1
        else:
            reached = tried[-1].score.loss
    return tried
