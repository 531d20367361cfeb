"""The order of the samples in an epoch: a pure function of (number, seed, epoch)."""

from __future__ import annotations

import torch
from torch import Tensor


def epoch_order(num_samples: int, *, shuffle: bool, seed: int, epoch: int, views: int = 1) -> Tensor:
    """Positions of the samples in the order of one epoch, the same on every machine and in every loop.

    Args:
        num_samples: Samples in the dataset.
        shuffle: False gives 0, 1, 2, ...
        seed: Any integer.
        epoch: Counted from 0; another epoch is another order.
        views: Of each sample; epoch e gives view e % views, at the positions from view * num_samples on.

    Returns:
        An int64 tensor of shape (num_samples,).

    Example:
        >>> epoch_order(3, shuffle=False, seed=0, epoch=0).tolist()
        [0, 1, 2]
        >>> torch.equal(*(epoch_order(9, shuffle=True, seed=1, epoch=4) for _ in range(2)))
        True
    """
    first = epoch % views * num_samples
    if not shuffle:
        return torch.arange(first, first + num_samples, device="cpu")
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(num_samples, generator=generator, device="cpu").add_(first)
