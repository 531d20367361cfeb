"""What treatments do to a patient: each changes a model, an optimizer or a clip in place."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline import remedies
from frostline.core.errors import DataError
from frostline.core.inputs import batch_size
from frostline.core.layers import is_pinned
from frostline.transfer import freeze

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient

MOMENTUM = 0.9  # the usual one
_REMEMBERED = 30  # norms
_FEWEST_FREE = 0.1  # of the batches
_FOR_STATISTICS = 2  # batches: training measures anew at once


def scale_rates(optimizer: Optimizer, factor: float) -> None:
    """Multiply all learning rates, and those from which schedules start."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
        if "initial_lr" in group:
            group["initial_lr"] = group["initial_lr"] * factor


def clip_with(patient: Patient, rule: Any) -> None:
    """Clip gradients by this rule before each step."""
    patient.clip = rule


def clip_usual(patient: Patient, data: Sequence[Batch], norm: float, share: float) -> None:
    """Clip at the median of the last norms of batches without rows that are far out: it shrinks as the network learns.

    Where nearly all batches have such rows, at a twentieth from below.

    Args:
        patient: Its gradients are clipped.
        data: The first batch shows how many rows a batch has.
        norm: The usual one, until others were seen.
        share: Of the rows that are far out.
    """
    are_free = (1 - share) ** batch_size(data[0][0])
    rule = remedies.clip_by_percentile(50 * max(are_free, _FEWEST_FREE), window=_REMEMBERED, warmup=0)
    rule.load_state_dict({"num_calls": 0, "num_skipped": 0, "rule": {"norms": [norm] * _REMEMBERED, "seen": 0}})
    patient.clip = rule


def skip_nonfinite(patient: Patient, _: Sequence[Batch]) -> None:
    """Leave out steps whose gradients are not finite, as every clip does."""
    patient.clip = patient.clip or remedies.clip_by_norm(1e30)


def initialise(patient: Patient, data: Sequence[Batch]) -> None:
    """Draw all weights anew, by the activation that follows each layer."""
    remedies.initialize(patient.model, include_pretrained=True, batch=data[0], optimizer=patient.optimizer)


def swap_squashers(patient: Patient, data: Sequence[Batch]) -> None:
    """Leaky ReLU for sigmoid and tanh, and new weights that fit it."""
    present = {type(module) for module in patient.model.modules()}
    for kind in present & {nn.Sigmoid, nn.Tanh, nn.Hardtanh}:
        remedies.swap_activations(patient.model, kind, nn.LeakyReLU, optimizer=patient.optimizer)
    initialise(patient, data)


def normalise(patient: Patient, data: Sequence[Batch]) -> None:
    """Insert BatchNorm before the activations."""
    remedies.insert_batchnorm(patient.model, data[:_FOR_STATISTICS], start="normalised", optimizer=patient.optimizer)


def swap_rectifiers(patient: Patient, _: Sequence[Batch]) -> None:
    """Leaky ReLU for ReLU."""
    remedies.swap_activations(patient.model, nn.ReLU, nn.LeakyReLU, optimizer=patient.optimizer)


def mend_batchnorm(patient: Patient, _: Sequence[Batch]) -> None:
    """Give BatchNorm its usual momentum."""
    for module in patient.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_pinned(module):
            module.momentum = 0.1


def swap_norms(patient: Patient, data: Sequence[Batch]) -> None:
    """GroupNorm with the weights of the BatchNorm: its statistics are of one sample, never of few.

    One group of all channels; where batches are one sample, a group of each channel that has several places, as the
    BatchNorm normalised it in training, so that nothing is lost that was learnt.
    """
    is_one = batch_size(data[0][0]) == 1
    for parent in list(patient.model.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not is_pinned(module):
                is_split = is_one and not isinstance(module, nn.BatchNorm1d)
                groups = module.num_features if is_split else 1
                made = nn.GroupNorm(groups, module.num_features, eps=module.eps, affine=module.affine)
                if module.affine:
                    made.weight, made.bias = module.weight, module.bias
                own = next(iter((*module.parameters(), *module.buffers())), torch.empty(0))
                setattr(parent, name, made.to(own.device).train(module.training))


def hold_frozen(patient: Patient, _: Sequence[Batch]) -> None:
    """Freeze the running statistics of BatchNorms whose weights are frozen."""
    kinds = (nn.modules.batchnorm._BatchNorm,)
    norms = [module for module in patient.model.modules() if isinstance(module, kinds) and module.affine]
    freeze(patient.model, modules=[module for module in norms if not module.weight.requires_grad])


def reestimate(patient: Patient, data: Sequence[Batch]) -> None:
    """Take the running statistics of BatchNorm from all batches."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in patient.model.modules()):
        with suppress(DataError):  # values that are not finite: the score says so
            remedies.reestimate_batchnorm(patient.model, data)


def leave_out_dropout(patient: Patient, _: Sequence[Batch]) -> None:
    """Set all dropout to 0."""
    for module in patient.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0


def leave_out_decay(patient: Patient, _: Sequence[Batch]) -> None:
    """Set all weight decay to 0."""
    for group in patient.optimizer.param_groups:
        if group.get("weight_decay"):
            group["weight_decay"] = 0.0


def lower_momentum(patient: Patient, _: Sequence[Batch]) -> None:
    """Lower the optimizer's momentum to the usual one."""
    for group in patient.optimizer.param_groups:
        group["momentum"] = min(group.get("momentum", 0.0), MOMENTUM)
