"""The labels of a dataset without its inputs, where it keeps them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_NAMES = ("labels", "targets")


def labels_of(dataset: Any) -> Tensor | None:
    """All labels (N,) of a dataset that keeps whole numbers as `.labels` or `.targets`, or is a part of such a one.

    A transform of its targets is not applied.
    """
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):  # a part, torch's Subset
        whole = labels_of(dataset.dataset)
        return whole[torch.as_tensor(list(dataset.indices), dtype=torch.int64)] if whole is not None else None
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, list):  # torch's ConcatDataset
        found = [labels_of(part) for part in parts]
        known = [labels for labels in found if labels is not None]
        return torch.cat(known) if known and len(known) == len(found) else None
    tensors = getattr(dataset, "tensors", None)  # torch's TensorDataset
    held = [getattr(dataset, name, None) for name in _NAMES]
    held.append(tensors[1] if isinstance(tensors, tuple) and len(tensors) == 2 else None)
    for one in held:
        labels = _as_numbers(one)
        if labels is not None and len(labels) == len(dataset):
            return labels
    return None


def _as_numbers(held: Any) -> Tensor | None:
    """Whole numbers (N,), or None; a column (N, 1) loses its axis."""
    try:
        labels = torch.as_tensor(held)
    except (TypeError, ValueError, RuntimeError):
        return None
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    is_whole = not (labels.is_floating_point() or labels.is_complex()) and labels.dtype != torch.bool
    return labels.to(torch.int64) if labels.dim() == 1 and is_whole else None
