"""Rows that are compared with all rows, because (N, 1) and (N,) are combined in a loss.

Legend: N rows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import kept_generators

if TYPE_CHECKING:
    from collections.abc import Callable

_FEWEST = 2  # rows
_COMBINES = frozenset({
    "sub", "__sub__", "rsub", "__rsub__", "mul", "__mul__", "__rmul__", "add", "__add__", "__radd__", "div",
    "__truediv__", "__rtruediv__", "true_divide", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
})  # fmt: skip


def joined_shapes(
    loss_fn: Callable[[Any, Any], Tensor], output: Any, target: Any
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The shapes of the first such pair, of which one comes of the output and one does not; None without one.

    Two that both come of the output are compared on purpose, as distances of all pairs are.

    Args:
        loss_fn: callable(output, target) -> scalar.
        output: Of a model.
        target: Of the same batch.
    """
    heard = _Heard()
    with suppress(*FOREIGN, DataError), kept_generators(), torch.enable_grad():
        given = batches.map_tensors(output, lambda one: one.detach().clone().requires_grad_(one.is_floating_point()))
        wanted = batches.map_tensors(target, Tensor.clone)
        with heard:
            loss_fn(given, wanted)
    return heard.found


class _Heard(TorchFunctionMode):
    """Looks at the two operands of each combination."""

    def __init__(self) -> None:
        super().__init__()
        self.found: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.found is None and getattr(func, "__name__", "") in _COMBINES and len(args) > 1:
            one, other = args[:2]
            if isinstance(one, Tensor) and isinstance(other, Tensor) and one.requires_grad != other.requires_grad:
                shapes = sorted((tuple(one.shape), tuple(other.shape)), key=len)
                if len(shapes[0]) == 1 and shapes[1] == (shapes[0][0], 1) and shapes[0][0] >= _FEWEST:
                    self.found = tuple(one.shape), tuple(other.shape)
        return func(*args, **(kwargs or {}))
