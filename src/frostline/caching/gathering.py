"""Gathers whole batches of rows from mapped shards, and compares every row's key with the one that was asked for.

Legend: N samples of a dataset, B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.shards import KEYS, Shards
from frostline.core import inputs as batches
from frostline.core.errors import CacheError

if TYPE_CHECKING:
    from frostline.core.records import FrontierTensor


class Gatherer:
    """Rows of a snapshot's samples.

    Args:
        shards: Where the rows lie.
        names: Shards by number.
        shard: (N,) number of the shard of each sample.
        row: (N,) row within it.
        keys: (N, 16) sample keys of the snapshot.
        frontier: What a batch consists of, in order.
        shared: Shared tensors by name.
        passed: Model inputs that go straight to the head, by name: (N, ...) in the order of the snapshot.
    """

    def __init__(
        self, shards: Shards, names: tuple[str, ...], shard: Tensor, row: Tensor, keys: Tensor,
        frontier: tuple[FrontierTensor, ...], shared: dict[str, Tensor], passed: dict[str, Tensor],
    ) -> None:  # fmt: skip
        self.shards, self.names, self.shard, self.row, self.keys = shards, names, shard, row, keys
        self.frontier, self.shared, self.passed = frontier, shared, passed

    def check_keys(self, samples: Tensor) -> None:
        """Compare the stored keys of these samples with the snapshot's.

        Raises:
            CacheError: If a row belongs to another sample.
        """
        stored = self._rows(KEYS, samples)
        if not torch.equal(stored, self.keys[samples]):
            odd = int((stored != self.keys[samples]).any(dim=1).nonzero()[0])
            raise CacheError(
                what="A stored row belongs to another sample.",
                where=f"{self.names[int(self.shard[samples[odd]])]}, row {int(self.row[samples[odd]])}",
                received=f"another sample key than that of sample {int(samples[odd])}",
                do="run FeatureCache.verify() to see how much is affected, and purge this recipe.",
            )

    def features(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The features of these samples in fresh memory: (B, *shape) each; shared tensors as they are."""
        return tuple(self._feature(tensor, samples) for tensor in self.frontier)

    def stored(self, samples: Tensor) -> dict[str, Tensor]:
        """The stored rows of these samples by name."""
        return {t.name: self._rows(t.name, samples) for t in self.frontier if not t.is_input and not t.shared}

    def _feature(self, tensor: FrontierTensor, samples: Tensor) -> Tensor:
        if tensor.is_input:
            passed = self.passed[tensor.name]
            return passed if tensor.shared else passed.index_select(0, samples)
        if tensor.shared:
            return self.shared[tensor.name]
        return self._rows(tensor.name, samples)

    def _rows(self, name: str, samples: Tensor) -> Tensor:
        rows = self.row.index_select(0, samples)
        if len(self.names) == 1:
            return self.shards.open(self.names[0])[name].index_select(0, rows)
        shard = self.shard.index_select(0, samples)
        used = shard.unique().tolist()
        first = self.shards.open(self.names[used[0]])[name]
        if len(used) == 1:
            return first.index_select(0, rows)
        gathered = torch.empty((len(samples), *first.shape[1:]), dtype=first.dtype)
        for number in used:
            places = (shard == number).nonzero().squeeze(1)
            source = self.shards.open(self.names[number])[name]
            gathered.index_copy_(0, places, source.index_select(0, rows[places]))
        return gathered


def moved(values: Any, device: torch.device | None) -> Any:
    """The batch on the device of the head; where it is already there, as it is."""
    return values if device is None or device.type == "cpu" else batches.move(values, device)
