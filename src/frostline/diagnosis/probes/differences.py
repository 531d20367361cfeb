"""The slope of a number along a random direction: by its backward, and by differences of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTIONS = 3  # that are tried before a backward is called wrong


def slope_along(number: Callable[[Tensor], Tensor], leaf: Tensor, step: float, seed: int) -> tuple[float, float]:
    """(by the backward, by differences) along a direction that the seed draws.

    Args:
        number: Of a value like the leaf; gives a scalar, the same whenever it is asked.
        leaf: In double precision, with a gradient.
        step: How far to go on either side.
        seed: Of the direction.
    """
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(number(leaf), leaf, materialize_grads=True, allow_unused=True)
    along = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(seed)).to(leaf.detach())
    with torch.no_grad():
        ahead, behind = (float(number(leaf.detach() + sign * step * along)) for sign in (1.0, -1.0))
    return float((slope * along).sum()), (ahead - behind) / (2 * step)
