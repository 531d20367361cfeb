"""All rows of a snapshot in the memory of a GPU: to copy a batch there every step takes as long as the step itself.

Legend: N samples of a snapshot, B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.caching.gather import Gatherer

_SHARE = 0.25  # of the memory that is free: the rest is for the model and its gradients
_AT_ONCE = 4096  # samples of one copy


def has_room(gatherer: Gatherer, device: torch.device) -> bool:
    """True if the device is a GPU, and all rows take a quarter of its free memory or less."""
    if device.type != "cuda":
        return False
    of_sample = sum(tensor.bytes_per_sample for tensor in gatherer.frontier if not tensor.shared)
    return len(gatherer.keys) * of_sample <= _SHARE * torch.cuda.mem_get_info(device)[0]


class Resident:
    """The features of a snapshot on a device, in the order of the samples.

    Args:
        gatherer: Gives the rows, once.
        device: Where they are kept.
    """

    def __init__(self, gatherer: Gatherer, device: torch.device) -> None:
        self._device = device
        self._is_shared = [tensor.shared for tensor in gatherer.frontier]
        samples = torch.arange(len(gatherer.keys), device="cpu")
        first = gatherer.features(samples[:1])
        self._features = [
            own.to(device) if is_shared else own.new_empty((len(samples), *own.shape[1:]), device=device)
            for own, is_shared in zip(first, self._is_shared, strict=True)
        ]
        for start, part in zip(
            range(0, len(samples), _AT_ONCE), gatherer.batches(samples, _AT_ONCE), strict=True
        ):  # fmt: skip
            for whole_N, own_B, is_shared in zip(self._features, part, self._is_shared, strict=True):
                if not is_shared:
                    whole_N[start : start + len(own_B)] = own_B.to(device)

    def batches(self, samples: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The features of these samples in batches, in fresh memory."""
        for part in samples.to(self._device).split(size):
            yield tuple(
                own.clone() if is_shared else own.index_select(0, part)
                for own, is_shared in zip(self._features, self._is_shared, strict=True)
            )
