"""One answer for all samples: what a network that has learnt nothing gives."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from typing import Any, cast

import torch
from torch import Tensor


def one_answer(output: Any, others: list[Any]) -> Any:
    """The mean answer, given to every sample; None where answers are of no kind that has a mean.

    Args:
        output: Answers to the batch that gets it: a tensor, or tensors by name.
        others: Of all batches that the mean is taken of, this one as well.
    """
    if isinstance(output, Tensor):
        return _mean_of(output, [other for other in others if isinstance(other, Tensor)])
    if isinstance(output, MutableMapping):
        same = copy.copy(cast("MutableMapping[str, Any]", output))
        for name, value in list(same.items()):
            same[name] = _mean_of(value, [other[name] for other in others]) if isinstance(value, Tensor) else value
        return same
    return None


def _mean_of(values: Tensor, others: list[Tensor]) -> Tensor:
    if not values.dim() or not values.is_floating_point():
        return values
    alike = [other for other in others if other.shape[1:] == values.shape[1:]]
    together = torch.cat(alike) if len(alike) > 1 else values
    return together.mean(0, keepdim=True).expand_as(values)


def num_rows(output: Any, *, unknown: int) -> int:
    """Samples that were answered; `unknown` where the output does not say."""
    tensors = [output] if isinstance(output, Tensor) else []
    if isinstance(output, MutableMapping):
        tensors = [value for value in cast("MutableMapping[str, Any]", output).values() if isinstance(value, Tensor)]
    return max((len(tensor) for tensor in tensors if tensor.dim()), default=unknown)
