"""Computes rows that are missing at a frost line from those of a lower line, without reading the samples.

Some are computed from the samples too, and compared. Builders share out what is missing, as they do what they read.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from frostline.caching.fill.fill_plan import positions
from frostline.caching.fill.frozen_pass import spread
from frostline.caching.fill.turns import Turns, claims_of
from frostline.caching.keys import NewKeys
from frostline.core.collate import collate
from frostline.core.disk_array import disk_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from frostline.caching.fill.earlier import Climb
    from frostline.caching.fill.fill import Filling
    from frostline.caching.store.shard_writer import ShardWriter


class ClimbedRows:
    """One pass over the rows that a fill misses.

    Args:
        filling: The fill.
        climb: Computes rows from those of the lower line.
        writer: Publishes the rows.
        missing: Positions of the samples; keys and targets of all are known.
        advance: Called with the number of samples that are done since the last call.
    """

    def __init__(
        self, filling: Filling, climb: Climb, writer: ShardWriter, missing: Sequence[int],
        advance: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._filling, self._climb, self._writer, self._advance = filling, climb, writer, advance
        self._chosen = {index: at for at, index in enumerate(missing[at] for at in spread(len(missing)))}
        self._expected = self._from_items()
        self._missing = self._without_repeated(missing)
        self._size = min(filling.batch_size, len(self._missing))
        self._seconds = 0.0

    def compute(self) -> None:
        """Compute what is missing, and publish it."""
        own = self._filling
        turns = Turns(claims_of(own.opened), own.rows, self._writer, self._adopt, self._row_s, self._size)
        for turn in turns.rounds(self._missing):
            while indices := list(islice(turn, self._size)):
                self._compute(indices, turns)
            own.golden.check()
            self._writer.finish()

    def _compute(self, indices: list[int], turns: Turns) -> None:
        own, count, started = self._filling, len(indices), time.monotonic()
        # One size of batches: a part that decides by it proves each size.
        beside = islice((at for at in self._missing if at not in indices), self._size - count)
        rows = {name: tensor[:count].cpu() for name, tensor in self._climb.rows([*indices, *beside]).items()}
        own.computer.check_finite(rows, indices)
        self._compare(rows, indices)
        keys = torch.from_numpy(own.samples.keys[indices])
        turns.write(indices, keys, own.storage.rounded_rows(rows, indices))
        own.computed += count
        self._seconds += time.monotonic() - started
        self._advance(count)

    def _compare(self, rows: dict[str, Tensor], indices: list[int]) -> None:
        both = [(at, self._chosen[index]) for at, index in enumerate(indices) if index in self._chosen]
        if both:
            ours, theirs = (list(own) for own in zip(*both, strict=True))
            self._filling.computer.check_golden(
                {name: tensor[ours] for name, tensor in rows.items()},
                {name: tensor[theirs] for name, tensor in self._expected.items()}, [indices[at] for at in ours],
            )  # fmt: skip

    def _from_items(self) -> dict[str, Tensor]:
        own, chosen = self._filling, list(self._chosen)
        return own.computer.compute(collate(list(self._read(chosen)), chosen), chosen)

    def _read(self, indices: Sequence[int]) -> Iterator[object]:
        return (inputs for inputs, _ in self._filling.reader.read(indices))

    def _without_repeated(self, missing: Sequence[int]) -> Sequence[int]:
        """Of samples of one content, the first."""
        keys, folder = self._filling.samples.keys, self._filling.opened.folder
        seen, is_new = NewKeys(keys, folder), disk_array((len(keys),), np.bool_, folder)
        for index in missing:
            is_new[index] = seen.add(index)
        return positions(len(keys), lambda part: is_new[part], folder)

    def _adopt(self, index: int, proves: bool) -> bool:
        """Take over a row that others have published; True: it is not computed any more."""
        own = self._filling
        if proves:
            own.golden.offer(index, next(self._read([index])))
        own.num_adopted += 1
        self._advance(1)
        return True

    def _row_s(self) -> float:
        """Seconds of one row, without those of waiting for others; 0 before any was computed."""
        return self._seconds / max(1, self._filling.computed)
