"""Outputs that lie on a bound, such as the 0 of a ReLU, beyond which the loss would fall further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.probes.output_range import parts_of
from frostline.diagnosis.rules.loss_records import OutputBound

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch

_FEWEST, _SHARE = 8, 0.2  # values that are the same to the bit, and their share of an output or column
_PUSHED = 0.8  # of these


def facts_of_bounds(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> OutputBound | None:
    """The first output, or column of it, that is held at its least or largest value; None without one.

    Args:
        model: After its training; runs in evaluation mode, and is left as it is.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    inputs, target = batch
    with evaluation(model), torch.enable_grad():
        output = batches.map_tensors(batches.call(model, inputs), Tensor.detach)
        parts, joined = parts_of(output)
        leaves = {name: part.clone().requires_grad_() for name, part in parts.items()}
        if not leaves:
            return None
        loss = loss_fn(joined(leaves), batches.map_tensors(target, Tensor.clone))
        slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    for (name, part), slope in zip(parts.items(), slopes, strict=True):
        low, high = part.min(), part.max()
        if not bool(low < high):
            continue
        for bound, side in ((low, slope), (high, -slope)):
            is_held = part == bound
            share = float(is_held.float().mean())
            is_some = int(is_held.sum()) >= _FEWEST and share >= _SHARE
            if is_some and float((side[is_held] > 0).float().mean()) > _PUSHED:
                return OutputBound(name, float(bound), share)
    return None
