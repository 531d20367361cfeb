"""Batches of a plain dataset in the same order as those of a cached one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frostline.core import inputs as batches
from frostline.core.order import epoch_order


class DatasetBatches:
    """Batches `(inputs, target)` of a map-style dataset; every pass is the next epoch.

    Args:
        dataset: Items are `(inputs, target)`, or mappings with a label.
        batch_size: Samples per batch.
        keep: Label keys that stay among the inputs.
        shuffle: Another order every epoch.
        seed: Of the order.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        keep: frozenset[str] = frozenset(),
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        batches.check_map_style(dataset)
        self.dataset, self.batch_size, self.keep = dataset, batch_size, keep
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        order = epoch_order(len(self.dataset), shuffle=self.shuffle, seed=self.seed, epoch=self.epoch).tolist()
        for start in range(0, len(order), self.batch_size):
            yield self.batch(order[start : start + self.batch_size])
        self.epoch += 1

    def batch(self, indices: list[int]) -> tuple[Any, Any]:
        """The samples at these positions as one batch."""
        items = [batches.unpack(batches.read(self.dataset, index), index, self.keep) for index in indices]
        inputs = batches.collate([inputs for inputs, _ in items], indices)
        return inputs, batches.collate_targets([target for _, target in items], indices)
