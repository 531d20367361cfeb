"""Asks a loss about answers that we make: no label of any framework is needed to know what it rewards.

Legend: B batch, C classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from frostline.health.records import LossFacts

if TYPE_CHECKING:
    from collections.abc import Callable

_SURE = 20.0  # a logit that far from the others is a certain answer: exp(-20) is 2e-9
_CERTAIN = (20.0, 40.0, 80.0)


def probe_loss(loss_fn: Callable[[Any, Any], Tensor], output: Any, target: Any) -> LossFacts:
    """How a loss behaves, asked with a batch of real targets and answers of our own.

    Args:
        loss_fn: callable(output, target) -> scalar.
        output: The model's output for the batch: its shape, dtype and range.
        target: The batch's targets.
    """
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return LossFacts("unknown")
    try:
        with torch.enable_grad():
            if target.dtype == torch.long and output.dim() == 2 and target.shape == output.shape[:1]:
                return _classes(loss_fn, output.detach().float(), target, output)
            if target.is_floating_point() and target.shape == output.shape:
                return _values(loss_fn, output.detach().float(), target, output)
    except (RuntimeError, ValueError, TypeError, IndexError):
        pass  # a loss that takes no answer but the model's own cannot be asked
    return LossFacts("unknown")


def _classes(loss_fn: Callable[[Any, Any], Tensor], output: Tensor, target: Tensor, made: Tensor) -> LossFacts:
    classes = output.shape[1]
    if classes < 2 or int(target.min()) < 0 or int(target.max()) >= classes:
        return LossFacts("unknown")
    right = F.one_hot(target, classes).float()
    wrong = F.one_hot((target + 1) % classes, classes).float()
    none, _ = _ask(loss_fn, torch.zeros_like(right), target)
    sure_right, _ = _ask(loss_fn, _SURE * right, target)
    sure_wrong, slope_wrong = _ask(loss_fn, _SURE * wrong, target)
    asked = [_ask(loss_fn, size * kind, target) for size in _CERTAIN for kind in (right, wrong)]
    is_finite = all(math.isfinite(value) for pair in asked for value in pair)
    near = min(_ask(loss_fn, size * right, target)[0] for size in (0.5, 1.0, 2.0, 4.0, _SURE))
    lowest = [_ask(loss_fn, size * right, target)[0] for size in (40.0, 80.0)]
    start = max(_ask(loss_fn, 0.5 * right, target)[1], _ask(loss_fn, torch.zeros_like(right), target)[1], 1e-30)
    return LossFacts(
        "classes",
        prefers_right=near < none - 1e-6 * abs(none) and sure_right < sure_wrong,
        slope_when_wrong=slope_wrong / start if math.isfinite(slope_wrong) else 1.0,
        is_bounded=not (lowest[1] < lowest[0] - 10 and lowest[1] < none - 10),
        is_finite=is_finite,
        stuck_share=_stuck_in_a_simplex(loss_fn, output, right, target, none, near, made),
    )


def _values(loss_fn: Callable[[Any, Any], Tensor], output: Tensor, target: Tensor, made: Tensor) -> LossFacts:
    del output
    are_labels = bool(((target >= 0) & (target <= 1)).all())
    if are_labels:  # logits or values: a right answer leans to the right side
        right, wrong = _SURE * (2 * target - 1), -_SURE * (2 * target - 1)
        exact = target
        cheapest = min(_ask(loss_fn, answer, target)[0] for answer in (right, exact, 0.25 * right))
        worst = max(_ask(loss_fn, answer, target)[0] for answer in (wrong, 1 - exact))
        return LossFacts("values", prefers_right=cheapest < worst, out_of_reach=_out_of_reach(made, target))
    exact, _ = _ask(loss_fn, target, target)
    spread = float(target.std(correction=0)) or 1.0
    moved = [_ask(loss_fn, target + shift * spread, target)[0] for shift in (-1.0, 1.0)]
    return LossFacts("values", prefers_right=exact < min(moved), out_of_reach=_out_of_reach(made, target))


def _ask(loss_fn: Callable[[Any, Any], Tensor], answer: Tensor, target: Tensor) -> tuple[float, float]:
    """(loss, norm of its slope) at an answer."""
    leaf = answer.detach().clone().requires_grad_()
    loss = loss_fn(leaf, target)
    (slope,) = torch.autograd.grad(loss, leaf, materialize_grads=True)
    return float(loss.detach()), float(slope.norm())


def _stuck_in_a_simplex(
    loss_fn: Callable[[Any, Any], Tensor], output: Tensor, right: Tensor, target: Tensor, none: float, near: float,
    made: Tensor,
) -> float:  # fmt: skip
    """Of a model that gives probabilities: the share of the loss that no probabilities can take off."""
    del made
    are_probabilities = bool((output >= 0).all()) and torch.allclose(
        output.sum(dim=1), torch.ones(len(output), device=output.device), atol=1e-3
    )
    if not are_probabilities or not none > near:
        return 0.0
    best, _ = _ask(loss_fn, right, target)
    return max(0.0, (best - near) / (none - near)) if math.isfinite(best) else 0.0


def _out_of_reach(made: Tensor, target: Tensor) -> float:
    """Share of targets that the last function of the model cannot give."""
    last = type(made.grad_fn).__name__
    low, high = {
        "SigmoidBackward0": (0.0, 1.0), "SoftmaxBackward0": (0.0, 1.0), "TanhBackward0": (-1.0, 1.0),
        "ReluBackward0": (0.0, math.inf),
    }.get(last, (-math.inf, math.inf))  # fmt: skip
    return float(((target < low) | (target > high)).float().mean())
