"""How a training is wired: parts of the network that never move, and samples that change each other's outputs.

Legend: B samples of a batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import (
    kept_attributes,
    kept_buffers,
    kept_generators,
    kept_gradients,
    kept_modes,
    seed_generators,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient

_MOVED = 1e-3  # of the largest answer


def idle_parts(
    patient: Patient, start: dict[str, Tensor], data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[tuple[str, str], ...]:
    """(module, why) of parts that ask for gradients, and have not moved while the others trained.

    Args:
        patient: After training.
        start: Its trainable parameters before, by name.
        data: One backward pass of the first batch shows which parts get a gradient at all.
        loss_fn: callable(output, target) -> scalar.
    """
    parameters = dict(patient.model.named_parameters())
    still = [name for name, before in start.items() if torch.equal(before, parameters[name].detach())]
    if not still or len(still) == len(start):
        return ()  # all stand still where every step was left out
    rates = {id(p): float(group["lr"]) for group in patient.optimizer.param_groups for p in group["params"]}
    reached = _gradients(patient.model, data[0], loss_fn)
    found: dict[str, str] = {}
    for name in still:
        if id(parameters[name]) not in rates:
            why = "not in the optimizer"
        elif rates[id(parameters[name])] == 0:
            why = "at a learning rate of 0"
        elif name not in reached:
            why = "without a gradient"
        else:
            continue  # it gets one, of zeros: dead units and weights of zero have rules of their own
        found.setdefault(name.rpartition(".")[0] or name, why)
    return tuple(found.items())


def stands_still(
    patient: Patient, start: dict[str, Tensor], batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[bool | None, float | None]:
    """Whether no trainable parameter has moved, to the bit, and then the gradient norm of a plain backward pass.

    Nothing is known where steps may have been left out for another reason.

    Args:
        patient: After training.
        start: Its trainable parameters before, by name.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    parameters = dict(patient.model.named_parameters())
    if not start or patient.scaler is not None or patient.clip is not None:
        return None, None  # a scaler leaves out steps that are not finite, as does a clip of ours
    if not all(torch.equal(before, parameters[name].detach()) for name, before in start.items()):
        return False, None
    gradients = _gradients(patient.model, batch, loss_fn)
    norm = float(torch.stack([gradient.float().norm() for gradient in gradients.values()]).norm()) if gradients else 0.0
    return (True, norm) if math.isfinite(norm) else (None, None)


def _gradients(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> dict[str, Tensor]:
    """Of a backward pass, by name of the parameter; those that get none are left out."""
    inputs, target = batch
    with kept_modes(model), kept_buffers(model), kept_generators(), kept_gradients(model), torch.enable_grad():
        seed_generators(0)
        loss_fn(batches.call(model, inputs), target).backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def mixes_samples(model: nn.Module, inputs: Any, target: Any) -> bool | None:
    """Whether the output of one sample changes with the others, in eval mode; None if that cannot be measured.

    Args:
        model: Its outputs have shape (B, C).
        inputs: A tensor of B samples.
        target: (B,) or (B, C).
    """
    if not isinstance(inputs, Tensor) or not isinstance(target, Tensor) or not inputs.dim() or len(inputs) < 2:
        return None
    if inputs.dim() > 2 and inputs.shape[0] == inputs.shape[1]:
        return None  # steps may come first
    others = inputs.clone()
    others[0] = inputs[-1]  # what runs over samples as if they were steps hands it on to the later ones
    answers: list[Any] = []
    with kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True), kept_generators():
        model.eval()
        for given in (inputs, inputs, others):
            seed_generators(0)
            with torch.no_grad():
                answers.append(batches.call(model, given))
    first, again, second = answers
    if not isinstance(first, Tensor) or first.dim() != 2 or target.dim() > 2 or len(target) != len(first):
        return None
    if len(first) != len(inputs) or not first.is_floating_point() or not bool(torch.isfinite(first).all()):
        return None
    if not torch.equal(first, again):
        return None  # it remembers, or draws from a generator of its own
    return bool((first - second)[1:].abs().max() > _MOVED * first.abs().max())
