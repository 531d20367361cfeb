"""Batches made of the samples of an example: few, many, and with other values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches

if TYPE_CHECKING:
    from torch import Tensor

# Two sizes show how sizes follow the batch; a third, between them, proves it.
SMALL, LARGE, PROOF = 2, 4, 3
# Where numbers follow the batch, a size far outside shows what only looks linear.
FAR = 19


def batch_of(example: Any, size: int, start: int = 0) -> Any:
    """`size` samples of the example, repeated where it has fewer."""
    count = batches.batch_size(example)
    index = torch.arange(start, start + size) % count
    if count < size:
        index[-1] = 0  # so that statistics over the batch are not the same at two sizes
    return batches.rows(example, index.to(_device_of(example)))


def put_first(example: Any, at: int) -> Any:
    """The example with another sample at its beginning."""
    order = torch.tensor([at, *(other for other in range(batches.batch_size(example)) if other != at)])
    return batches.rows(example, order.to(_device_of(example)))


def other_values(inputs: Any) -> Any:
    """The same batch with other values: floats are scaled, except masks of zeros and ones."""

    def change(tensor: Tensor) -> Tensor:
        is_mask = bool(((tensor == 0) | (tensor == 1)).all())
        return tensor * 0.75 if tensor.is_floating_point() and not is_mask else tensor

    return batches.map_tensors(inputs, change)


def _device_of(inputs: Any) -> torch.device:
    return next(iter(batches.leaves(inputs).values())).device
