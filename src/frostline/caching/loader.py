"""The fast way to train from a cache: whole batches, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.gathering import Gatherer, moved
from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.order import epoch_order

if TYPE_CHECKING:
    from collections.abc import Mapping

# Keys are compared and targets fetched this many batches ahead: batch by batch it would cost as much as the rows.
_BATCHES_AHEAD = 64


class CachedLoader:
    """Yields `(features, target)` batches; every pass over it is the next epoch.

    Attributes:
        epoch: The epoch that the next pass gives; set it to go to another.
        batch_size: Samples per batch.
    """

    def __init__(
        self, gatherer: Gatherer, targets: Any, num_samples: int, batch_size: int, *, shuffle: bool, seed: int,
        drop_last: bool, device: torch.device | None,
    ) -> None:  # fmt: skip
        if batch_size < 1:
            raise DataError(
                what="A batch needs at least one sample.", where="loader(batch_size=...)", received=str(batch_size),
                do="pass a batch_size of 1 or more.",
            )  # fmt: skip
        self.batch_size, self.epoch = batch_size, 0
        self._gatherer, self._targets, self._num_samples = gatherer, targets, num_samples
        self._shuffle, self._seed, self._drop_last, self._device = shuffle, seed, drop_last, device
        self._batch = 0

    def __len__(self) -> int:
        if self._drop_last:
            return self._num_samples // self.batch_size
        return -(-self._num_samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[tuple[Tensor, ...], Any]]:
        order = epoch_order(self._num_samples, shuffle=self._shuffle, seed=self._seed, epoch=self.epoch)
        count, size = len(self), self.batch_size
        while self._batch < count:
            stop = min(self._batch + _BATCHES_AHEAD, count)
            chunk = order[self._batch * size : stop * size]
            self._gatherer.check_keys(chunk)
            targets = batches.map_tensors(self._targets, lambda x, at=chunk: x.index_select(0, at))
            parts = zip(self._gatherer.batches(chunk, size), _parts(targets, len(chunk), size), strict=True)
            for _ in range(self._batch, stop):
                self._batch += 1
                yield moved(next(parts), self._device)  # no name holds the batch: its memory is free for the next one
        self._batch = 0
        self.epoch += 1

    def state_dict(self) -> dict[str, int]:
        """Where the next batch comes from: four integers."""
        return {"seed": self._seed, "epoch": self.epoch, "batch": self._batch, "batch_size": self.batch_size}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on exactly there.

        Raises:
            DataError: If the state is of a loader with another batch size.
        """
        if state["batch_size"] != self.batch_size:
            raise DataError(
                what="The loader was saved with another batch size.",
                where="loader.load_state_dict",
                received=f"batch_size {state['batch_size']}; this loader has {self.batch_size}",
                do="make the loader with the same batch_size.",
            )
        self._seed, self.epoch, self._batch = state["seed"], state["epoch"], state["batch"]


def _parts(targets: Any, count: int, size: int) -> Iterable[Any]:
    if isinstance(targets, Tensor):
        return targets.split(size)
    starts = range(0, count, size)
    return (batches.map_tensors(targets, lambda x, at=start: x[at : at + size]) for start in starts)
