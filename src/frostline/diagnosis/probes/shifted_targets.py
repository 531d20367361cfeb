"""Targets that belong to the row before or after, and batches in the order of real targets.

Legend: N rows, D features, C columns of known answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.diagnosis.probes.linear_share import chosen_rows, known_answers, linear_share, readable_inputs
from frostline.diagnosis.rules.wiring_records import ShiftFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch

_SHIFTS = {"the row before": 1, "the row after": -1, "the row in reversed order": 0}
_READ, _NOTHING = 0.3, 0.1  # shares that a linear model reads of shifted targets, and of those that are given
_HELD, _SAME = 0.6, 0.05  # of the rows, others being held out, and the distance of values that are the same
_FEWEST_BATCHES, _FEWEST_ROWS = 10, 8


def facts_of_shifts(data: Sequence[Batch]) -> ShiftFacts | None:
    """None where the targets are not one class or number for each row.

    Args:
        data: Batches of (inputs, target), in the order in which they are trained on.
    """
    chosen = chosen_rows(data)
    if known_answers(chosen) is None:
        return None
    inputs = readable_inputs(chosen)
    instead, own, best = "", 0.0, 0.0
    if inputs is not None:
        own = _read(inputs, [target for _, target in chosen])
        found = {} if own > _NOTHING or _are_windows(inputs, chosen) else {
            name: _read(inputs, [_moved(target, shift) for _, target in chosen]) for name, shift in _SHIFTS.items()
        }  # fmt: skip
        name = max(found, key=lambda one: found[one], default="")
        if name and found[name] > _READ:
            instead, best = name, found[name]
    return ShiftFacts(own, instead, best, _between(data))


def _are_windows(inputs_ND: Tensor, chosen: Sequence[Batch]) -> bool:
    """Whether a column is the target of the row before or after, as in windows of a series in their order."""
    values_ND = _in_one_unit(inputs_ND)
    target_N1 = _in_one_unit(torch.cat([target.detach().double().reshape(-1, 1).cpu() for _, target in chosen]))
    pairs = ((values_ND[1:], target_N1[:-1]), (values_ND[:-1], target_N1[1:]))
    return any(float(((rows - other).abs() < _SAME).double().mean(0).max()) > _HELD for rows, other in pairs)


def _in_one_unit(values_ND: Tensor) -> Tensor:
    """By the median and the usual distance from it, which some other rows do not change."""
    values_ND = values_ND - values_ND.median(0).values
    return values_ND / values_ND.abs().median(0).values.clamp_min(1e-12)


def _moved(target: Tensor, shift: int) -> Tensor:
    return target.roll(shift, 0) if shift else target.flip(0)


def _read(inputs_ND: Tensor, targets: list[Tensor]) -> float:
    known_NC = known_answers([(None, target) for target in targets])
    return linear_share(inputs_ND, known_NC) if known_NC is not None else 0.0


def _between(data: Sequence[Batch]) -> float:
    """The share of the variance of real targets that lies between batches, of the first that hold as many rows."""
    targets = [
        target.detach().double().reshape(-1) for _, target in data if isinstance(target, Tensor)
        and target.is_floating_point() and target.numel() == len(target) >= _FEWEST_ROWS
    ]  # fmt: skip
    if len(targets) < _FEWEST_BATCHES or len(targets) < len(data) // 2:
        return 0.0
    every = torch.cat(targets)
    total = float(every.var(correction=0))
    if not total > 0 or len(every.unique()) <= 2 or not bool(torch.isfinite(every).all()):
        return 0.0
    return float(torch.stack([one.mean() for one in targets]).var(correction=0)) / total
