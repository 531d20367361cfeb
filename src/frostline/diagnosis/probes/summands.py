"""The terms that a loss is a sum of: what each is, what it weighs at the weights, and where it stands in the code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import kept_buffers, kept_generators, kept_gradients, kept_modes
from frostline.diagnosis.probes.evaluation_pass import weights_of
from frostline.diagnosis.probes.loss_sum import terms_of
from frostline.diagnosis.rules.loss_records import Summand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch

    Loss = Callable[[Any, Any], Tensor]

_MOST_WEIGHTS = 20_000_000
_MOST_BATCHES = 24  # of which values are taken
_MOVED = 1.02  # factor of the weights, that shows which values depend on them


def summands_of(
    model: nn.Module, start: dict[str, Tensor], data: Sequence[Batch], loss_fn: Loss
) -> tuple[Summand, ...]:  # fmt: skip
    """The terms of a loss; none where it has but one, or is no plain sum.

    Args:
        model: After training; it runs in the modes in which it trains, and is left as it is.
        start: Its trainable weights before, by name.
        data: Batches that it was trained on.
        loss_fn: callable(output, target) -> scalar.
    """
    weights = [one for one in model.parameters() if one.requires_grad]
    if sum(one.numel() for one in weights) > _MOST_WEIGHTS:
        return ()
    with kept_modes(model), kept_buffers(model), kept_generators(), kept_gradients(model), torch.enable_grad():
        with weights_of(model, start):
            first = terms_of(model, weights, data[0], loss_fn)
            if len(first) < 2:
                return ()
            others = terms_of(model, [], _with_other_targets(data), loss_fn)
        with weights_of(model, {name: _MOVED * value for name, value in start.items()}):
            moved = terms_of(model, [], data[0], loss_fn)
        last = terms_of(model, weights, data[0], loss_fn)
        if not len(first) == len(others) == len(moved) == len(last):
            return ()
        several = [terms_of(model, [], one, loss_fn) for one in data[:: max(1, len(data) // _MOST_BATCHES)]]
    rows = [one for one in several if len(one) == len(first)]
    depends = [one.value != other.value for one, other in zip(first, moved, strict=True)]
    total = max((float(one.gradient.norm()) for one in first if one.gradient is not None), default=0.0)
    last_total = max((float(one.gradient.norm()) for one in last if one.gradient is not None), default=0.0)
    if not 0 < total < math.inf:
        return ()
    every, last_every = (
        torch.stack([one.gradient for one in terms if one.gradient is not None]).sum(0) for terms in (first, last)
    )
    found = [
        Summand(
            one.name, one.value, after.value, _over(one.gradient, total), _over(after.gradient, last_total),
            is_of_rows=one.value != other.value, rare=sum(each[at].value == 0 for each in rows) / max(1, len(rows)),
            against=_cosine(one.gradient, every), last_against=_cosine(after.gradient, last_every),
        )
        for at, (one, other, after) in enumerate(zip(first, others, last, strict=True))
        if not one.is_constant or depends[at]
    ]  # fmt: skip
    return tuple(found) if len(found) > 1 else ()


def _with_other_targets(data: Sequence[Batch]) -> Batch:
    """The first batch with the targets of other rows; the last one where there are no targets by row."""
    inputs, target = data[0]
    if not any(one.dim() and len(one) > 1 for one in batches.leaves(target).values()):
        return data[-1]
    return inputs, batches.map_tensors(target, lambda one: one.roll(1, 0) if one.dim() else one)


def _over(gradient: Tensor | None, total: float) -> float | None:
    return None if gradient is None else float(gradient.norm()) / total if total > 0 else 0.0


def _cosine(gradient: Tensor | None, every: Tensor) -> float:
    """With the gradient of all other terms."""
    if gradient is None:
        return 0.0
    others = every - gradient
    size = float(gradient.norm() * others.norm())
    return float(gradient @ others) / size if size > 0 else 0.0
