"""Representations that collapse: what a loss of cosines is least of, where nothing pushes outputs apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import seed_generators
from frostline.diagnosis.experiments.own_step import SteppedModel
from frostline.diagnosis.probes.directions import spread_of_directions
from frostline.diagnosis.probes.evaluation_pass import evaluation

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch


def directions_apart(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> float | None:
    """How far the outputs of different rows point apart, 0 to 1; None where the loss sees more of them than that.

    Args:
        model: Of a step, the model inside; it runs in evaluation mode.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    try:
        if not _sees_directions_only(model, batch, loss_fn):
            return None
        return spread_of_directions(*_called_by_step(model, batch[0]))
    except (*FOREIGN, LookupError, DataError):
        return None


def _called_by_step(model: nn.Module, inputs: Any) -> tuple[nn.Module, Any]:
    """(model, its inputs) of the first call that a step makes of its model; as they are where there is no step."""
    if not isinstance(model, SteppedModel):
        return model, inputs
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = model.model.register_forward_pre_hook(lambda _, args, kwargs: given.append((args, kwargs)), with_kwargs=True)
    try:
        with evaluation(model), torch.no_grad():
            seed_generators(0)
            batches.call(model, inputs)
    finally:
        hook.remove()
    args, kwargs = given[0] if given else ((), {})
    if bool(args) == bool(kwargs):
        raise LookupError  # it calls parts of the model only, or by places and names
    return model.model, kwargs or (args[0] if len(args) == 1 else args)


def _sees_directions_only(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> bool:
    """Whether the loss stays if the outputs of the model, that inside of a step, are three times as large: cosines."""
    inner = model.model if isinstance(model, SteppedModel) else model
    costs: list[float] = []
    for factor in (1.0, 3.0):
        hook = inner.register_forward_hook(
            lambda _, __, output, factor=factor: batches.map_tensors(
                output, lambda one: factor * one if one.is_floating_point() else one
            )
        )
        try:
            with evaluation(model), torch.no_grad():
                seed_generators(0)
                costs.append(float(loss_fn(batches.call(model, batch[0]), batch[1])))
        finally:
            hook.remove()
    return math.isclose(*costs, rel_tol=1e-4, abs_tol=1e-6)
