"""How a frontier tensor follows the batch: which axis, folded with what, in which memory order.

Legend: B batch, k the size of what is folded into the batch axis (heads, windows), 1 for none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """From the tensor in the model to rows of samples, and back.

    Attributes:
        axis: The axis that follows the batch; None for a shared tensor.
        fold: k, if the axis has the size k x B.
        is_batch_major: True if the samples' entries lie together in the folded axis (b0 b0 b1 b1).
        order: The axes by descending stride, where memory is not in plain order (channels last).
    """

    axis: int | None
    fold: int = 1
    is_batch_major: bool = True
    order: tuple[int, ...] | None = None

    @property
    def is_plain(self) -> bool:
        """True if the tensor is stored as the model made it."""
        return self.axis is None or (self.axis == 0 and self.fold == 1 and self.order is None)

    def fits(self, tensor: Tensor, batch_size: int) -> bool:
        """True if the tensor has k entries for every sample of the batch."""
        return self.axis is None or (self.axis < tensor.dim() and tensor.shape[self.axis] == self.fold * batch_size)

    def to_rows(self, tensor: Tensor) -> Tensor:
        """(k x B on some axis) -> (B, ...)."""
        if self.axis is None:
            return tensor
        rows = tensor.movedim(self.axis, 0)
        if self.fold == 1:
            return rows
        if self.is_batch_major:
            return rows.unflatten(0, (-1, self.fold))
        return rows.unflatten(0, (self.fold, -1)).transpose(0, 1)

    def from_rows(self, rows: Tensor) -> Tensor:
        """The inverse of `to_rows`, with the memory order that the model's own tensor has."""
        if self.axis is None:
            return rows
        if self.fold > 1:
            rows = (rows if self.is_batch_major else rows.transpose(0, 1)).flatten(0, 1)
        tensor = rows.movedim(0, self.axis)
        if self.order is None:
            return tensor.contiguous()
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return tensor.permute(self.order).contiguous().permute(inverse)


def find_layout(small: Tensor, large: Tensor, small_size: int, large_size: int) -> Layout | None:
    """How a tensor follows the batch, from its values at two batch sizes.

    The small batch must be the first samples of the large one. None if no single axis follows the batch.
    """
    if small.dim() != large.dim():
        return None
    axes = [at for at in range(small.dim()) if small.shape[at] != large.shape[at]]
    if not axes:
        return Layout(None)
    axis = axes[0]
    fold, rest = divmod(small.shape[axis], small_size)
    if len(axes) > 1 or rest or fold * large_size != large.shape[axis] or fold == 0:
        return None
    order = memory_order(large)
    if fold == 1:
        return Layout(axis, order=order)
    layouts = [Layout(axis, fold, is_major, order) for is_major in (True, False)]
    return min(layouts, key=lambda layout: _distance(layout, small, large, small_size))


def from_rows(rows: Tensor, layout: Layout) -> Tensor:
    """`layout.from_rows(rows)` as a function of the graph."""
    return layout.from_rows(rows)


def _distance(layout: Layout, small: Tensor, large: Tensor, small_size: int) -> float:
    difference = layout.to_rows(large)[:small_size].double() - layout.to_rows(small).double()
    return float(torch.nan_to_num(difference).abs().max()) if difference.numel() else 0.0


def memory_order(tensor: Tensor) -> tuple[int, ...] | None:
    """The axes by descending stride, or None for plain order; broadcast axes have no order of their own."""
    if tensor.is_contiguous() or 0 in tensor.stride():
        return None
    order = tuple(sorted(range(tensor.dim()), key=lambda at: -tensor.stride(at)))
    return None if order == tuple(range(tensor.dim())) else order
