"""What a loss takes: targets from 0 to 1, positive outputs, log-probabilities; and which classes it counts at all.

Each is asked by what the loss costs at outputs that are made here, so that its name does not matter.

Legend: B batch, C classes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from frostline.core.errors import FOREIGN, DataError
from frostline.diagnosis.probes.output_range import is_free, range_of_last
from frostline.diagnosis.rules.loss_records import LossDomain

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZES = (50.0, 100.0, 200.0)  # of outputs, between which a loss that has no floor goes on falling
_DEEP = 10.0  # by which it falls from one to the next
_SOFT = 0.999  # the largest share of a row; beyond, its target is one class
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of the logarithms of soft targets; a temperature is one of them
_LEAST = 1e-4  # of the loss at the targets themselves, by which surer outputs cost less
_LEAST_SHARE = 0.05  # of the rows of a batch that a class must have


def facts_of_domain(loss_fn: Callable[[Any, Any], Tensor], output: Any, target: Any) -> LossDomain:
    """What the loss takes, as far as that can be asked of one batch.

    Args:
        loss_fn: callable(output, target) -> scalar.
        output: The model's output for the batch.
        target: The batch's targets.
    """
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return LossDomain()
    made = output.detach()
    made = made if made.dtype is torch.float64 else made.float()

    def cost(answer: Tensor, wanted: Tensor) -> float:
        try:
            with torch.no_grad():
                return float(loss_fn(answer.clone(), wanted))
        except (*FOREIGN, DataError):
            return math.nan

    is_same = target.is_floating_point() and target.shape == made.shape and target.numel() > 0
    is_real = is_same and bool(torch.isfinite(target).all())
    is_soft = is_real and _is_soft(target)
    are_shares = range_of_last(output) == (0.0, 1.0)
    is_of_places = not target.is_floating_point() and made.dim() >= 3 and is_free(output)
    return LossDomain(
        largest_target=_beyond_one(cost, target) if is_real else None,
        is_improper=is_soft and _is_improper(cost, made, target),
        is_soft=is_soft,
        falls_with_all=is_of_places and _falls(cost, made, target),
        needs_positive=not are_shares and _needs_positive(cost, made, target),
        breaks_at_bounds=are_shares and _breaks_at_bounds(cost, made, target),
        is_column=is_column(made, target),
        uncounted=_uncounted(loss_fn, made, target),
    )


def _falls_on(values: list[float]) -> bool:
    """Whether each is far below the one before it."""
    return all(map(math.isfinite, values)) and all(later < earlier - _DEEP for earlier, later in pairwise(values))


def _beyond_one(cost: Callable[[Tensor, Tensor], float], target: Tensor) -> float | None:
    """The largest target, if the loss has no floor because targets are beyond 1: 255 of a mask; else None."""
    low, high = float(target.min()), float(target.max())
    if low < 0 or not high > 1:
        return None
    toward = 2 * target / high - 1
    # With `high`, outputs lie beyond all targets, from which errors are measured.
    given = [cost(size * high * toward, target) for size in _SIZES]
    scaled = [cost(size * toward, target / high) for size in _SIZES]
    has_floor = all(map(math.isfinite, scaled)) and scaled[-1] > scaled[0] - _DEEP
    return high if _falls_on(given) and has_floor else None


def _is_soft(target: Tensor) -> bool:
    """Whether rows are shares of a whole over three classes or more, and not one class each."""
    if target.dim() != 2 or target.shape[1] < 3 or bool((target < 0).any()):
        return False
    is_whole = torch.allclose(target.sum(1), target.new_ones(len(target)), atol=1e-3)
    return is_whole and float((target.amax(1) < _SOFT).float().mean()) > 0.5


def _is_improper(cost: Callable[[Tensor, Tensor], float], made: Tensor, target: Tensor) -> bool:
    """Whether outputs surer than soft targets cost less and less: kl_div of probabilities, for one.

    A loss that fits is lowest where the outputs are the targets, or at some temperature of them.
    """
    ones = made.new_ones(len(made))
    shares = target.to(made.dtype).clamp_min(1e-6).log()
    if torch.allclose(made.exp().sum(1), ones, atol=1e-3):
        costs = [cost((scale * shares).log_softmax(1), target) for scale in _SCALES]
    elif bool((made >= 0).all()) and torch.allclose(made.sum(1), ones, atol=1e-3):
        costs = [cost((scale * shares).softmax(1), target) for scale in _SCALES]
    else:
        costs = [cost(scale * shares, target) for scale in _SCALES]
    if not all(map(math.isfinite, costs)):
        return False
    own = costs[_SCALES.index(1.0)]
    return costs[-1] <= min(costs) + _LEAST * abs(own) and costs[-1] < own - _LEAST * abs(own)


def _falls(cost: Callable[[Tensor, Tensor], float], made: Tensor, target: Tensor) -> bool:
    """Whether a loss of classes falls without end as all outputs grow together, which says nothing of any class."""
    return _falls_on([cost(made, target), *(cost(made + size, target) for size in _SIZES)])


def _needs_positive(cost: Callable[[Tensor, Tensor], float], made: Tensor, target: Tensor) -> bool:
    """Whether outputs below 0 make the loss NaN or infinite, and those above do not."""
    size = made.abs() + 0.1
    return math.isfinite(cost(size, target)) and not math.isfinite(cost(-size, target))


def _breaks_at_bounds(cost: Callable[[Tensor, Tensor], float], made: Tensor, target: Tensor) -> bool:
    """Whether a share of exactly 0 or 1 makes the loss NaN or infinite, and one between them does not."""
    bounds = (cost(torch.full_like(made, bound), target) for bound in (0.0, 1.0))
    return math.isfinite(cost(torch.full_like(made, 0.5), target)) and not all(map(math.isfinite, bounds))


def _uncounted(loss_fn: Callable[[Any, Any], Tensor], made: Tensor, target: Tensor) -> tuple[tuple[int, float], ...]:
    """(class, share of the rows) of classes whose rows get no gradient at all, though those of others do."""
    labels = _labels(made, target)
    if labels is None or not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= made.shape[1]:
        return ()
    wrong = F.one_hot((labels + 1) % made.shape[1], made.shape[1]).to(made.dtype)  # for each row
    drawn = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made)
    is_moved = torch.zeros(len(labels), dtype=torch.bool, device=made.device)
    for answer in (wrong, drawn):  # a reward less a baseline may be 0 at one of them
        leaf = answer.clone().requires_grad_()
        try:
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(loss_fn(leaf, target), leaf, materialize_grads=True)
        except (*FOREIGN, DataError):
            return ()
        is_moved |= slope.abs().amax(1) > 0
    if not bool(is_moved.any()):
        return ()
    shares = [(int(one), float((labels == one).float().mean())) for one in labels.unique()
              if not bool(is_moved[labels == one].any())]  # fmt: skip
    return tuple((one, share) for one, share in shares if share >= _LEAST_SHARE)


def _labels(made: Tensor, target: Tensor) -> Tensor | None:
    """(B,) labels by number of rows of several outputs; None if the targets are none."""
    if made.dim() != 2 or is_column(made, target):
        return target.reshape(-1).long() if made.dim() == 2 else None
    return target if target.dtype == torch.long and target.shape == made.shape[:1] else None


def is_column(made: Tensor, target: Tensor) -> bool:
    """Whether targets are a column of whole numbers for rows of several outputs, which a loss may broadcast."""
    if made.dim() != 2 or made.shape[1] < 2 or target.shape != (len(made), 1):
        return False
    return bool(torch.isfinite(target).all()) and bool((target == target.round()).all())
