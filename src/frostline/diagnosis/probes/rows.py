"""Rows that give their target away, that come with several targets, or that are in another unit later on.

Legend: N rows, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.diagnosis.rules.row_records import RowFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch

_MOST_ROWS, _FEWEST_ROWS = 2000, 64
_MOST_FEATURES = 4096
_FEWEST_FEATURES = 3  # beside the target: y = x is a lesson, not a leak
_EXACT = 1e-5  # of the deviation of the target
_FEWEST_BATCHES = 20
_ENDS = 0.1  # of the batches at each end, whose sizes are compared


def facts_of_rows(data: Sequence[Batch]) -> RowFacts:
    """What the rows of these batches say without any model.

    Args:
        data: Batches of (inputs, target), in the order in which they are trained on.
    """
    first, last = _sizes(data)
    pooled = _pooled(data)
    if pooled is None:
        return RowFacts(first_size=first, last_size=last)
    inputs_ND, target_N = pooled
    at, factor = _answer(inputs_ND, target_N)
    share, example = _several_targets(inputs_ND, target_N)
    return RowFacts(at, factor, inputs_ND.shape[1], share, example, first, last)


def _pooled(data: Sequence[Batch]) -> tuple[Tensor, Tensor] | None:
    """(inputs_ND, target_N) of the first rows; None where there is not one number or class for each row."""
    parts: list[Tensor] = []
    count = 0
    for inputs, target in data:
        leaves = list(batches.leaves(inputs).values())
        is_plain = isinstance(target, Tensor) and target.dim() and target.numel() == len(target) and leaves
        if (
            not is_plain
            or not len(target)
            or any(not one.dim() or len(one) != len(target) or one.is_complex() for one in leaves)
        ):
            return None
        if sum(one[0].numel() for one in leaves) > _MOST_FEATURES:
            return None
        parts.append(
            torch.cat(
                [one.detach().reshape(len(target), -1).cpu().double() for one in (*leaves, target.reshape(-1, 1))], 1
            )
        )
        count += len(target)
        if count >= _MOST_ROWS:
            break
    if len({part.shape[1] for part in parts}) != 1 or count < _FEWEST_ROWS:
        return None
    rows = torch.cat(parts)
    rows = rows[torch.isfinite(rows).all(1)]
    return (rows[:, :-1], rows[:, -1]) if len(rows) >= _FEWEST_ROWS else None


def _answer(inputs_ND: Tensor, target_N: Tensor) -> tuple[int | None, float]:
    """(the feature that is the target, or a multiple of it with an offset; the factor), or None."""
    spread = target_N.std(correction=0)
    if inputs_ND.shape[1] <= _FEWEST_FEATURES or not bool(spread > 0):
        return None, 0.0
    centred, wanted = inputs_ND - inputs_ND.mean(0), target_N - target_N.mean()
    factor = (centred * wanted[:, None]).sum(0) / centred.square().sum(0).clamp_min(1e-30)
    rest = (centred * factor - wanted[:, None]).abs().amax(0)
    at = int(rest.argmin())
    return (at, float(factor[at])) if bool(rest[at] <= _EXACT * spread) else (None, 0.0)


def _several_targets(inputs_ND: Tensor, target_N: Tensor) -> tuple[float, tuple[float, float] | None]:
    """(share of the rows whose input comes with another target as well, two targets of one input)."""
    _, group = torch.unique(inputs_ND, dim=0, return_inverse=True)
    count = int(group.max()) + 1
    low = target_N.new_full((count,), torch.inf).scatter_reduce(0, group, target_N, "amin")
    high = target_N.new_full((count,), -torch.inf).scatter_reduce(0, group, target_N, "amax")
    is_torn = (high > low)[group]
    if not bool(is_torn.any()):
        return 0.0, None
    one = int(group[is_torn][0])
    return float(is_torn.double().mean()), (float(low[one]), float(high[one]))


def _sizes(data: Sequence[Batch]) -> tuple[float, float]:
    """The usual root mean square of the first float input in the first batches, and in the last; 0 if not known."""
    if len(data) < _FEWEST_BATCHES:
        return 0.0, 0.0
    count = max(2, int(_ENDS * len(data)))
    return _size(data[:count]), _size(data[-count:])


def _size(data: Sequence[Batch]) -> float:
    found: list[float] = []
    for inputs, _ in data:
        tensor: Any = next((one for one in batches.leaves(inputs).values() if one.is_floating_point()), None)
        if tensor is None or not tensor.numel():
            return 0.0
        found.append(float(tensor.detach().float().nan_to_num().square().mean().sqrt()))
    return sorted(found)[len(found) // 2]
