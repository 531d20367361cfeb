"""What BatchNorm layers do to the loss: with running, exact and batch statistics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline import remedies
from frostline.core import inputs as batches
from frostline.core.errors import FrostlineError
from frostline.core.layers import is_pinned
from frostline.core.restore import kept_buffers, kept_modes
from frostline.diagnosis.experiments.score import mean_loss
from frostline.diagnosis.rules.records import NormFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient

COMPARED = 20  # batches, the last ones, on which the losses are compared


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the running means, by layer: before a training, for `compare_norms` after it."""
    return {name: m.running_mean.detach().clone() for name, m in _norms(model).items() if m.running_mean is not None}


def compare_norms(
    patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor],
    before: dict[str, Tensor],
) -> NormFacts | None:  # fmt: skip
    """Losses with running, exact and batch statistics; layers that move although they are frozen."""
    norms = _norms(patient.model)
    if not norms:
        return None
    frozen = [
        name for name, module in norms.items()
        if module.affine and not module.weight.requires_grad and module.training
        and (mean := module.running_mean) is not None and name in before and not torch.equal(before[name], mean)
    ]  # fmt: skip
    kept = {name: module for name, module in norms.items() if module.training and module.running_mean is not None}
    if not kept:
        return NormFacts(tuple(norms), moving_in_frozen=tuple(frozen))
    part = data[-COMPARED:]
    with kept_buffers(patient.model):
        in_training = mean_loss(patient.model, part, loss_fn, train_mode=True)
    in_eval = mean_loss(patient.model, part, loss_fn)
    exact = _exact(patient, data, part, loss_fn)
    smallest = min(_values_per_channel(patient.model, kept, data[0][0]))
    momenta = [module.momentum for module in kept.values() if module.momentum is not None]
    return NormFacts(
        tuple(kept), smallest, min(momenta, default=None), _finite(in_training), _finite(in_eval),
        _finite(exact), tuple(frozen), _usual_size(data),
    )  # fmt: skip


def _norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {
        name: module for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_pinned(module)
    }  # fmt: skip


def _exact(
    patient: Patient, data: Sequence[Batch], part: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]
) -> float:
    try:
        change = remedies.reestimate_batchnorm(patient.model, data)
    except FrostlineError:  # values that are not finite: another rule says so
        return math.nan
    try:
        return mean_loss(patient.model, part, loss_fn)
    finally:
        change.undo()


def _values_per_channel(model: nn.Module, norms: dict[str, Any], inputs: Any) -> list[int]:
    counts: list[int] = []

    def hear(_: nn.Module, args: tuple[Any, ...]) -> None:
        counts.append(args[0].numel() // args[0].shape[1])

    handles = [module.register_forward_pre_hook(hear) for module in norms.values()]
    try:
        with kept_modes(model), kept_buffers(model), torch.no_grad():
            model.eval()
            batches.call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counts or [2**31]


def _usual_size(data: Sequence[Batch]) -> int:
    return sorted(batches.batch_size(inputs) for inputs, _ in data)[len(data) // 2]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
