"""Reads the samples of a fill, and computes and publishes the rows that are missing.

What other builders have claimed is read last: by then most of its rows are published.

Legend: B batch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.caching.fill.frozen_pass import spread
from frostline.caching.fill.turns import Turns, claims_of
from frostline.caching.keys import NewKeys, item_key
from frostline.caching.samples.dataset_reader import content_of
from frostline.caching.store.ragged import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from frostline.caching.fill.fill import Filling
    from frostline.caching.fill.fill_plan import FillPlan
    from frostline.caching.store.shard_writer import ShardWriter

# Items that are read again after all were read: a fiftieth of them, at least four, at most as many as golden rows.
_SHARE_AGAIN, _FEW_AGAIN = 50, 4
_NUM_BEHIND = 1  # batches that a GPU computes while others are read and stored
_ALIKE = (
    "the views of the samples that were compared are the same: if the dataset is not random, leave views out, so that "
    "it is read once"
)


@dataclass(frozen=True)
class _Launched:
    """A batch of B samples whose frozen pass was started."""

    inputs: list[Any]
    batch: Any
    indices: list[int]
    found: dict[str, Tensor]


class MissingRows:
    """One pass over samples of a fill.

    Args:
        filling: The fill.
        writer: Publishes the rows.
        unread: Positions of the samples.
        advance: Called with the number of samples that are done since the last call.
        plan: Of the fill.
    """

    def __init__(
        self, filling: Filling, writer: ShardWriter, unread: Sequence[int], advance: Callable[[int], None],
        plan: FillPlan,
    ) -> None:  # fmt: skip
        self._filling, self._writer, self._unread, self._advance = filling, writer, unread, advance
        self._has_keys = plan.known is not None
        # Where nothing seems to be missing, claims would only delay builders that read the same samples.
        self._is_shared = plan.num_missing > 0
        self._new = NewKeys(filling.samples.keys, filling.opened.folder)
        self._chosen = {unread[at] for at in spread(len(unread), max(_FEW_AGAIN, len(unread) // _SHARE_AGAIN))}
        self._read_before: dict[int, tuple[bytes, bytes]] = {}
        self._varying = [tensor.name for tensor in filling.part.frontier if tensor.is_varying]
        self._target_of = None if filling.samples.names else getattr(filling.dataset, "target", None)
        self._launched: deque[_Launched] = deque()
        self._to_prove: set[int] = set()  # stored by others meanwhile, and read all the same

    def compute(self) -> None:
        """Read all of the samples; what is missing is computed, and all is published."""
        own = self._filling
        content = own.reader.check_steady()
        if not self._has_keys:
            own.rows.follow_places(content)
        if not own.reader.has_differing_views():
            own.opened.notes.append(_ALIKE)
        turns = self._turns()
        for number, turn in enumerate(turns.rounds(self._unread)):
            self._read(turn, turns)
            for group in own.waiting.rest():
                self._launch(group, turns)
            self._store(turns, num_left=0)
            if not number or self._writer.is_holding:
                own.reader.check_again(self._read_before)
                own.row_proof.check(is_last=True)
                self._writer.finish()
        own.golden.check()

    def _turns(self) -> Turns:  # not kept: a ring would keep shards mapped
        own = self._filling
        claims = claims_of(own.opened) if self._is_shared else None
        return Turns(claims, own.rows, self._writer, self._adopt, self._row_s, own.batch_size)

    def _row_s(self) -> float:
        """Seconds of one row; 0 before any was computed."""
        return self._filling.row_seconds() if self._filling.computed else 0.0

    def _read(self, positions: Iterator[int], turns: Turns) -> None:
        own, keys, given = self._filling, self._filling.samples.keys, deque[int]()

        def noted() -> Iterator[int]:
            for position in positions:
                given.append(position)  # worker processes read ahead
                yield position

        for inputs, target in own.reader.read(noted()):
            index = given.popleft()
            if not self._has_keys:
                keys[index] = np.frombuffer(item_key(inputs, index), np.uint8)
            own.samples.take(index, target, inputs)
            if index in self._chosen:
                self._read_before[index] = content_of((inputs, target), index)
            if own.rows.has(index):
                if not self._has_keys or index in self._to_prove:  # else some were proven before the first was read
                    own.golden.offer(index, inputs)
                own.num_adopted += not own.rows.had(index)
                turns.done(index)
            elif not self._new.add(index):
                turns.done(index)
            else:
                for group in own.waiting.add(index, inputs):
                    self._launch(group, turns)
            self._advance(1)

    def _launch(self, waiting: dict[int, Any], turns: Turns) -> None:
        """Start the frozen pass of a batch; a GPU computes it while the next one is read and hashed."""
        computer, indices, inputs = self._filling.computer, list(waiting), list(waiting.values())
        batch = computer.collate(inputs, indices)
        self._launched.append(_Launched(inputs, batch, indices, computer.launch(batch, indices)))
        self._store(turns, num_left=_NUM_BEHIND if computer.is_on_gpu and self._filling.computed else 0)

    def _store(self, turns: Turns, num_left: int) -> None:
        """Wait for the oldest batches that were launched, and store their rows."""
        own = self._filling
        while len(self._launched) > num_left:
            launched = self._launched.popleft()
            indices, rows = launched.indices, own.computer.collect(launched.found, launched.indices)
            own.row_proof.offer(launched.inputs, launched.batch, indices, rows)
            if not own.computed:
                own.row_proof.check()
            rows = own.storage.rounded_rows(rows, indices)
            turns.write(indices, torch.from_numpy(own.samples.keys[indices]), packed(rows, self._varying))
            own.computed += len(indices)

    def _adopt(self, index: int, proves: bool) -> bool:
        """Take over a row that others have published, unless the sample must be read; whether it need not be."""
        if self._target_of is None or proves:
            self._to_prove.add(index)
            return False
        self._filling.num_adopted += 1
        self._filling.samples.recall(index, self._target_of(index), {})
        self._advance(1)
        return True
