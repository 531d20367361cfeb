"""Reads the items of a dataset, and notices when they are random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from frostline.caching.keys import item_key
from frostline.core import inputs as batches
from frostline.core.errors import DataError, FrostlineError
from frostline.core.restore import GeneratorStates, generator_states, set_generator_states

Item = tuple[Any, Any]


class Reader:
    """The items of a map-style dataset as (inputs, target), read under watch.

    Args:
        dataset: Anything with `len()` and `[i]`.
        keep: Label keys that stay among the inputs.
        num_workers: Worker processes; they watch too.
    """

    def __init__(self, dataset: Any, keep: frozenset[str], num_workers: int) -> None:
        batches.check_map_style(dataset)
        self.watched = Watched(dataset, keep)
        self.num_workers = num_workers

    def read(self, indices: Sequence[int]) -> Iterator[Item]:
        """The items at these positions, in order."""
        if self.num_workers == 0:
            for index in indices:
                yield self.watched[index]
            return
        loader = DataLoader(
            self.watched, sampler=indices, batch_size=None, num_workers=self.num_workers, collate_fn=_as_it_is
        )
        for read in loader:
            if isinstance(read, FrostlineError):
                raise read
            yield read

    def check_steady(self) -> None:
        """Read the first, middle and last item twice: private generators leave no other trace.

        Raises:
            DataError: If an item differs from itself.
        """
        count = len(self.watched)
        for index in sorted({0, count // 2, count - 1}):
            first, second = (item_key(self.watched[index][0], index) for _ in range(2))
            if first != second:
                raise _random(index, "two different results for the same index")


class Watched(Dataset[Any]):
    """A dataset whose items must not draw from the global generators."""

    def __init__(self, dataset: Any, keep: frozenset[str]) -> None:
        self.dataset, self.keep = dataset, keep

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        is_worker = torch.utils.data.get_worker_info() is not None
        try:
            return self._read(index)
        except FrostlineError as error:
            if is_worker:
                return error  # a worker would wrap it into another text
            raise

    def _read(self, index: int) -> Item:
        before = generator_states()
        item = batches.read(self.dataset, index)
        drawn = _drawn(before, generator_states())
        if drawn:
            set_generator_states(before)
            raise _random(index, f"the {drawn} generator advanced while the item was read")
        inputs, target = batches.unpack(item, index, self.keep)
        return inputs, batches.move(target, "cpu")


def _drawn(before: GeneratorStates, after: GeneratorStates) -> str | None:
    if before[0] != after[0]:
        return "python"
    numpy = [(states[1]["state"]["pos"], states[1]["state"]["key"].tobytes()) for states in (before, after)]
    if numpy[0] != numpy[1]:
        return "numpy"
    if not torch.equal(before[2], after[2]) or not all(map(torch.equal, before[3], after[3])):
        return "torch"
    return None


def _random(index: int, received: str) -> DataError:
    return DataError(
        what="The dataset is random: the same index does not give the same inputs.",
        where=f"dataset[{index}]",
        received=received,
        do="use a deterministic transform (Resize and CenterCrop instead of RandomResizedCrop), or train with "
        "frostline.fit(..., cache=False).",
    )


def _as_it_is(item: Any) -> Any:
    return item
