"""Rows that stand far out of the data: in another unit, from a broken sensor, or no numbers at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.diagnosis.rules.limits import OUTLYING
from frostline.diagnosis.rules.records import OutlierFacts, TargetFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

Batch = tuple[Any, Any]

_MOST = 0.05  # of the rows: where more are far out, that is what the data are like
_OF_ONE = 1e-2  # what shares of classes may miss of their sum, in float16


def outlying_rows(data: Sequence[Batch]) -> list[Tensor]:
    """Of each batch, which rows are far out of all the data, or not finite, in inputs or in targets.

    A network is evaluated on the usual rows. Outlier rows are excluded from the evaluation and stay in the training.
    Where many targets are NaN, they mark what the loss ignores.
    """
    found = [torch.zeros(batches.batch_size(inputs), dtype=torch.bool) for inputs, _ in data]
    for what, sizes in _all_sizes(data):
        limit = usual_limit(sizes)
        is_marked = what == "target" and float(torch.cat(sizes).isnan().float().mean()) > _MOST
        for odd, size in zip(found, sizes, strict=True):
            odd |= (size > limit) | (size.isnan() & (not is_marked))
    return found


def facts_of_outliers(data: Sequence[Batch]) -> OutlierFacts | None:
    """The part of the data, inputs or targets, that has the rows that are farthest out; None without any."""
    found: list[OutlierFacts] = []
    for what, sizes in _all_sizes(data):
        limit = usual_limit(sizes)
        finite = [size.nan_to_num(0.0, 0.0, 0.0) for size in sizes]
        far = [(size > limit).nonzero().flatten().tolist() for size in finite]
        num_far, num_rows = sum(map(len, far)), sum(map(len, sizes))
        step = next((at for at, rows in enumerate(far) if rows), None)
        if step is not None:
            ratio = float(max(size.max() for size in finite if len(size))) / (limit / OUTLYING)
            found.append(OutlierFacts(what, ratio, num_far / num_rows, step, tuple(far[step][:16])))
    return max(found, key=lambda facts: facts.ratio, default=None)


def facts_of_targets(data: Sequence[Batch]) -> TargetFacts | None:
    """Mean and deviation of the targets of usual rows; None for classes, labels, shares, and what is no one tensor."""
    if not any(isinstance(target, Tensor) and target.is_floating_point() for _, target in data):
        return None
    parts = [
        target[~odd.to(target.device)]
        for (_, target), odd in zip(data, outlying_rows(data), strict=True)
        if isinstance(target, Tensor) and target.is_floating_point() and target.dim() and len(target) == len(odd)
    ]
    if _are_shares(parts):
        return None
    # on the CPU first: not every device has float64
    values = torch.cat([part.detach().flatten().cpu().double() for part in parts]) if parts else torch.empty(0)
    values = values[torch.isfinite(values)]
    if values.numel() < 2 or bool((values == 0).logical_or(values.abs() == 1).all()):
        return None
    deviation, mean = torch.std_mean(values, correction=0)
    return TargetFacts(float(mean), float(deviation)) if deviation > 0 else None


def _all_sizes(data: Sequence[Batch]) -> list[tuple[str, list[Tensor]]]:
    """How large every row is, batch by batch: of each input, and of each target, from the middle of all targets."""
    rows = [batches.batch_size(inputs) for inputs, _ in data]
    found: list[tuple[str, list[Tensor]]] = []
    for what, parts in (("input", [inputs for inputs, _ in data]), ("target", [target for _, target in data])):
        leaves = [_float_leaves(part) for part in parts]
        for name in leaves[0]:
            tensors = [leaf.get(name) for leaf in leaves]
            known = [t for t, size in zip(tensors, rows, strict=True) if t is not None and t.dim() and len(t) == size]
            if len(known) == len(data):
                found.append((what, _sizes_of_targets(known) if what == "target" else [_size(t) for t in known]))
    return found


def _sizes_of_targets(known: Sequence[Tensor]) -> list[Tensor]:
    """From the middle of all; shares lie far from it by their nature, and all have the same sum."""
    if _are_shares(known):
        return [_size(tensor, 1.0) for tensor in known]
    middle = _median(torch.cat([tensor.flatten() for tensor in known]))
    return [_size(tensor - middle) for tensor in known]


def _are_shares(known: Sequence[Tensor]) -> bool:
    """Whether nearly all are shares of classes, which sum to 1 over the second axis or the last: soft labels."""
    if not known or any(tensor.dim() < 2 for tensor in known):
        return False
    return any(all(tensor.shape[axis] > 1 for tensor in known) and _sum_to_one(known, axis) for axis in {1, -1})


def _sum_to_one(known: Sequence[Tensor], axis: int) -> bool:
    are_one = [((t >= 0).all(axis) & ((t.float().sum(axis) - 1).abs() < _OF_ONE)).flatten() for t in known]
    return float(torch.cat(are_one).float().mean()) >= 1 - _MOST


def _float_leaves(part: Any) -> dict[str, Tensor]:
    leaves = batches.leaves(part)
    return {name: tensor.detach() for name, tensor in leaves.items() if tensor.is_floating_point() and tensor.numel()}


def _size(rows: Tensor, order: float = math.inf) -> Tensor:
    return torch.linalg.vector_norm(batches.flat_rows(rows).float(), order, dim=1).cpu()


def usual_limit(sizes: Sequence[Tensor]) -> float:
    """What a row must not be larger than; the largest number where there is no usual size, or many are larger."""
    together = torch.cat(list(sizes))
    together = together[torch.isfinite(together)]
    limit = OUTLYING * _median(together)
    is_rare = limit > 0 and float((together > limit).float().mean()) <= _MOST
    return limit if is_rare else torch.finfo(torch.float32).max


def _median(values: Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.float().median()) if finite.numel() else 0.0
