"""Targets that are classes: how many there are, how many a batch holds, and whether they are given as numbers.

Legend: N rows, D features, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.diagnosis.rules.row_records import ClassFacts, NumberFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch

_MOST_ROWS, _MOST_FEATURES = 4000, 1024  # of the two linear models: a fraction of a second
_MOST_NUMBERS, _FEWEST_ROWS = 100, 20  # of a table of classes, and of each of them
_RIDGE = 1e-2  # of the mean square of a feature
_FEWEST = 4  # rows of a batch that say anything about their order


def facts_of_classes(data: Sequence[Batch]) -> ClassFacts | None:
    """None where targets are not one class for each sample.

    Args:
        data: Batches of (inputs, target), in the order in which they are trained on.
    """
    targets = [target for _, target in data if isinstance(target, Tensor) and target.dim() == 1 and len(target) > 1]
    if len(targets) < len(data) / 2 or any(target.dtype != torch.long for target in targets):
        return None
    every = torch.cat([target[target >= 0] for target in targets])  # labels below 0 are ignored by losses
    if not every.numel():
        return None
    counts = torch.bincount(every)
    shares = counts[counts > 0].double() / len(every)
    large = [target for target in targets if len(target) >= _FEWEST]
    seen = [len(torch.unique(target)) for target in large]
    shuffled = [float((1 - (1 - shares) ** len(target)).sum()) for target in large]
    if not large:
        return ClassFacts(len(shares), int(every[0]))
    return ClassFacts(len(shares), int(every[0]), sum(seen) / len(seen), sum(shuffled) / len(shuffled))


def only_value(data: Sequence[Batch]) -> tuple[float, int] | None:
    """(the one value of all targets, how many of them a row has) where all are the same; None where they are not.

    Args:
        data: Batches of (inputs, target).
    """
    first: float | None = None
    for _, target in data:
        if not isinstance(target, Tensor) or not target.dim() or not target.numel() or target.is_complex():
            return None
        first = float(target.reshape(-1)[0]) if first is None else first
        if not bool((target == first).all()):
            return None
    return None if first is None else (first, data[0][1][0].numel())


def facts_of_numbers(data: Sequence[Batch]) -> NumberFacts | None:
    """None where targets are not whole numbers without gaps, one for each row, or the inputs are not one float tensor.

    Args:
        data: Batches of (inputs, target).
    """
    if not all(isinstance(part, Tensor) and part.is_floating_point() for batch in data[:1] for part in batch):
        return None
    inputs_ND, target_N = _distinct(data)
    count = len(torch.unique(target_N))
    is_whole = bool((target_N == target_N.round()).all()) and count - 1 == int(target_N.max() - target_N.min())
    if not is_whole or not 2 < count <= _MOST_NUMBERS or len(target_N) < 2 * _FEWEST_ROWS * count:
        return None
    lowest, half = target_N.min(), len(target_N) // 2
    hot_NC = torch.nn.functional.one_hot((target_N - lowest).long(), count).double()
    known = torch.cat([hot_NC, target_N[:, None]], 1)
    answers = linear_answers(inputs_ND[:half], known[:half], inputs_ND[half:])
    right_N = target_N[half:]
    as_classes = (answers[:, :count].argmax(1) + lowest == right_N).double().mean()
    as_quantity = (answers[:, count].round() == right_N).double().mean()
    return NumberFacts(count, float(as_classes), float(as_quantity))


def _distinct(data: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """(inputs_ND, target_N) of rows that are not repeated; none where there is more than one target for a row."""
    nothing = torch.zeros(1, 1).double(), torch.zeros(1).double()
    parts: list[Tensor] = []
    for inputs, target in data:
        is_one = isinstance(target, Tensor) and isinstance(inputs, Tensor) and target.numel() == len(inputs)
        if not is_one or inputs[0].numel() > _MOST_FEATURES:
            return nothing
        parts.append(torch.cat([inputs.detach().flatten(1), target.detach().reshape(-1, 1)], 1).cpu().double())
        if sum(map(len, parts)) >= _MOST_ROWS:
            break
    rows = torch.unique(torch.cat(parts), dim=0)
    rows = rows[torch.isfinite(rows).all(1)]
    if not len(rows):
        return nothing
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return rows[:, :-1], rows[:, -1]


def linear_answers(inputs: Tensor, known: Tensor, others: Tensor) -> Tensor:
    """What a linear model, fitted to these rows, answers to others."""
    mean, scale = inputs.mean(0), inputs.std(0).clamp(min=1e-12)
    x, y = ((part - mean) / scale for part in (inputs, others))
    x, y = (torch.cat([part.clamp(-10, 10), torch.ones(len(part), 1).double()], 1) for part in (x, y))
    ridge = _RIDGE * len(x) * torch.eye(x.shape[1]).double()
    return y @ torch.linalg.solve(x.T @ x + ridge, x.T @ known)
