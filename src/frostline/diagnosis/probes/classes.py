"""Targets that are classes: how many there are, and how many a batch holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.diagnosis.rules.records import ClassFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch

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
