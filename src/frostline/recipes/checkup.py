"""A checkup: train a copy, let the rules look for symptoms, and undo one factor at a time to find the cause.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from frostline.core.arguments import as_count, as_number
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import describe
from frostline.core.layers import default_dtype_of
from frostline.core.restore import default_dtype, kept_generators
from frostline.core.steps import is_optimizer
from frostline.diagnosis import Patient
from frostline.diagnosis.experiments import (
    BATCHNORM,
    Examination,
    as_batches,
    check_given,
    counts,
    examine,
    held_out,
    num_epochs,
    prove,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments import Suspicion, Trial

_AS_GOOD_AS_IT_GETS = 0.97  # right answers: what comes later can hardly do better, and is less specific
_LITTLE = 0.5  # of the loss of the constant-prediction baseline; below it other rates are tried, whatever the symptoms

_FEWEST = 20  # batches, after which another rate says something about the whole training


@public("checkup")
def checkup(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor],
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer] | None = None, *, steps: int | None = None,
    epochs: float | None = None, accumulation: int = 1, scaler: Any = None,
) -> Diagnosis:  # fmt: skip
    """Find what keeps a network from training, on a copy: symptoms by layer, and the cause by trial.

    The copy trains on the batches while every layer is measured. What the rules suspect is then undone, one factor at
    a time, from the same start on the same batches: a suspicion is an issue only if that makes the network clearly
    better, on other held-out samples as well, and the cause is the most specific factor that does. Your model,
    optimizer, generators and modes are left as they are. It takes the time of one training on the batches for each
    factor that is tried, and of two to six more for one that helps.

    Args:
        model: As it is before training, or anywhere in it.
        batches: A finite iterable of `(inputs, target)`, three epochs of a loader or more:
            `[batch for _ in range(3) for batch in loader]`. In less a larger learning rate is ahead in healthy networks
            as well, so that none is called too low.
        loss_fn: callable(output, target) -> scalar.
        optimizer: The one that you train with; its settings, state and hooks before the step are copied. Or
            callable(parameters) that makes one. None takes AdamW at 1e-3, and the learning rate is not judged.
        steps: Use only so many batches.
        epochs: How many epochs the batches are. None counts how often the same inputs come again; say it where
            augmentation changes them each time, or where a stream never repeats any.
        accumulation: Batches whose gradients make one step of yours; their mean is taken.
        scaler: Your `torch.amp.GradScaler`, copied. Call `checkup` inside of your `torch.autocast`.

    Returns:
        Issues and tips, most severe first, each with its evidence; the cause if there is one; what could not be judged.

    Raises:
        DataError: If there are no batches or fewer than `steps`, nothing trains, the optimizer holds other parameters,
            or the loss is not a scalar that depends on the model.
    """
    check_given(model, batches, loss_fn, "checkup")
    accumulation = as_count("checkup", "accumulation", accumulation)
    epochs = as_number("checkup", "epochs", epochs, above=0) if epochs is not None else None
    steps = as_count("checkup", "steps", steps) if steps is not None else None
    if scaler is not None and (isinstance(scaler, type) or not hasattr(scaler, "unscale_")):
        raise DataError(
            what="That is no scaler of gradients.", where="checkup(scaler=...)", received=describe(scaler),
            do="pass your torch.amp.GradScaler, or leave it out.",
        )  # fmt: skip
    with default_dtype(default_dtype_of(model)):  # what is made on the way fits the model, whatever the caller makes
        return _checkup(model, batches, loss_fn, optimizer, steps, epochs, accumulation, scaler)


def _checkup(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor], optimizer: Any, steps: int | None,
    epochs: float | None, accumulation: int, scaler: Any,
) -> Diagnosis:  # fmt: skip
    with kept_generators():  # a loader that shuffles draws
        whole = as_batches(batches, model, steps)
    data, judged = held_out(whole)
    is_rate_known = optimizer is not None
    patient = Patient(model, _optimizer(model, optimizer), accumulation=accumulation, scaler=scaler)
    count = num_epochs(whole) if epochs is None else epochs
    seen = examine(patient, data, judged, loss_fn, whole=whole, epochs=count)
    if seen.is_misfit:
        return told(seen.diagnosis, None, "loss_mismatch", is_rate_known=is_rate_known)
    tried = _try_all(seen, is_rate_known=is_rate_known)
    proof = prove(seen, tried, whole)
    cause = proof.trial.suspicion.family if proof is not None else None
    return told(seen.diagnosis, proof, cause, tried, seen.start, is_rate_known=is_rate_known)


def _try_all(seen: Examination, *, is_rate_known: bool) -> list[Trial]:
    """Undo what the evidence suggests, the most specific first; then try other learning rates."""
    tried: list[Trial] = []
    suspicions = seen.suspicions()
    if seen.is_short:  # what is faster at first is ahead in healthy networks as well
        suspicions = [one for one in suspicions if one.is_clear]
    for suspicion in (one for one in suspicions if one.has_symptom):
        tried.append(seen.attempt(suspicion))
        is_good = counts(tried[-1]) and tried[-1].score.share > _AS_GOOD_AS_IT_GETS
        is_specific = suspicion.is_clear and not suspicion.is_late and suspicion.remedy.identity != BATCHNORM
        if is_good and is_specific:
            return tried
    skill = seen.seen.score.skill
    is_rate_known = is_rate_known and seen.num_steps >= _FEWEST
    is_suspect = bool(seen.diagnosis.findings) or seen.is_stuck or (skill is not None and skill < _LITTLE)
    for at, direction in enumerate(seen.rates(both=True) if is_suspect and is_rate_known else ()):
        if at < 2 or not any(map(counts, tried)):
            tried += _along(seen, direction)
    if not any(map(counts, tried)):
        tried += [seen.attempt(one) for one in suspicions if not one.has_symptom]
    return tried


def _along(seen: Examination, direction: list[Suspicion]) -> list[Trial]:
    """Learning rates further and further away, until the loss gets no lower; a symptom is followed a step longer."""
    tried: list[Trial] = []
    reached, patience = seen.seen.score.loss, 1
    for suspicion in direction:
        tried.append(seen.attempt(suspicion))
        if reached == reached and not tried[-1].score.loss < reached:
            if not suspicion.has_symptom or not patience:
                break
            patience -= 1
        else:
            reached = tried[-1].score.loss
    return tried


def _optimizer(model: nn.Module, given: Any) -> Optimizer:
    """The one that was given, or that which it makes, or the usual one."""
    if given is not None and is_optimizer(given):
        return given
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    made: Any = given(trainable) if callable(given) and trainable else None
    if given is not None and trainable and not is_optimizer(made):
        raise DataError(
            what="That is no optimizer, and does not make one.", where="checkup(optimizer=...)",
            received=type(given if made is None else made).__name__,
            do="pass the optimizer that you train with, or one that is made from the parameters: "
            "lambda parameters: torch.optim.SGD(parameters, lr=0.1).",
        )  # fmt: skip
    if made is not None:
        return made
    if not trainable:
        raise DataError(
            what="The model has nothing to train: every parameter is frozen.", where=type(model).__name__,
            received=f"{sum(1 for _ in model.parameters())} parameters, none of which requires gradients",
            do="let something train, such as model.requires_grad_(True), or check the module that does.",
        )  # fmt: skip
    is_half = any(parameter.dtype == torch.float16 for parameter in trainable)
    return torch.optim.AdamW(trainable, lr=1e-3, eps=1e-4 if is_half else 1e-8)  # 1e-8 is zero in float16
