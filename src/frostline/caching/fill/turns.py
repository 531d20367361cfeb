"""The order in which a builder takes the samples of a fill that other builders may compute too.

Samples that others have claimed come last. Most of their rows are published by then; the others are waited for, as long
as that costs less than to compute them, or are free because their builder has died.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from frostline.caching.store.claims import MOST_CLAIMED, LockedClaims

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from frostline.caching.fill.known_rows import KnownRows
    from frostline.caching.store.claims import Claims
    from frostline.caching.store.opening import Opened
    from frostline.caching.store.shard_writer import ShardWriter


_FIRST_POLL_S, _LAST_POLL_S = 0.02, 1.0
_SHARE_OF_LEFT = 2  # a claim takes at most half of a fair share of what is left, so that all end at about one time


class Turns:
    """Gives out the samples of one fill, in rounds, and takes back their rows.

    Args:
        claims: Of this builder; None where every sample is its turn.
        rows: What is stored.
        writer: Publishes what is computed.
        adopt: Called with each sample whose row others have published meanwhile, and whether it is one of the few that
            prove the others; returns whether it need not be read any more.
        row_s: Seconds of one row, as measured by now.
        batch_size: Samples per pass.
    """

    def __init__(
        self, claims: Claims | None, rows: KnownRows, writer: ShardWriter, adopt: Callable[[int, bool], bool],
        row_s: Callable[[], float], batch_size: int,
    ) -> None:  # fmt: skip
        self._claims, self._rows, self._writer, self._adopt = claims, rows, writer, adopt
        self._row_s, self._batch_size = row_s, batch_size
        self._later: list[int] = []
        self._done: list[int] = []
        self._num_adopted = 0
        self._is_first = self._is_patient = True
        self._most = batch_size  # doubled with every claim: the first batches of a pass say little of its speed

    def rounds(self, positions: Sequence[int]) -> Iterator[Iterator[int]]:
        """Rounds of positions; the rows of a round are published before the next one begins.

        Args:
            positions: Of all samples of the fill.
        """
        claims = self._claims
        if claims is None:
            yield iter(positions)
            return
        try:
            since, poll_s = time.monotonic(), _FIRST_POLL_S
            while positions:
                yield self._round(claims, positions)
                self._give_back()
                is_stuck, positions, self._later = len(self._later) == len(positions), self._later, []
                self._is_first = False
                if not is_stuck:
                    since, poll_s = time.monotonic(), _FIRST_POLL_S
                elif time.monotonic() - since > max(claims.patience_s, 2 * len(positions) * self._row_s()):
                    self._is_patient = False  # its builder may hang: rows that it publishes after all are merged
                else:
                    _wait(poll_s)
                    poll_s = min(2 * poll_s, _LAST_POLL_S)
        finally:
            claims.close()

    def done(self, position: int) -> None:
        """The row of this sample need not be computed."""
        if self._claims is not None:  # else nothing is given back
            self._done.append(position)

    def write(self, positions: Sequence[int], keys: Tensor, rows: dict[str, Tensor]) -> None:
        """Hand the computed rows of these samples to the writer; once they are published, their claims are given back.

        Args:
            positions: Of B samples.
            keys: (B, 32) uint8.
            rows: As the writer takes them.
        """
        for position in positions:
            self.done(position)
        num_before = len(self._writer.published)
        self._writer.add(keys, rows)
        if len(self._done) > MOST_CLAIMED // 2:  # so that claims stay small
            self._writer.finish()
        if len(self._writer.published) > num_before:
            self._give_back()

    def _give_back(self) -> None:  # what is done is published
        if self._claims is not None and self._done:
            self._claims.give_back(self._rows.ids(self._done))
        self._done = []

    def _round(self, claims: Claims, positions: Sequence[int]) -> Iterator[int]:
        if not self._is_first:
            while positions and (free := self._free(claims, positions)):
                yield from free
                positions, self._later = self._later, []
            return
        at = 0
        while at < len(positions):  # part by part: to compare all ids with each claim would take time for many samples
            part = positions[at : at + self._size(claims, len(positions) - at)]
            at += len(part)
            yield from self._free(claims, part)

    def _free(self, claims: Claims, part: Sequence[int]) -> list[int]:
        """Those of the part that nobody else computes, and that must be read; the others come in a later round."""
        if not self._is_first:
            self._rows.look(is_needed=True)
        part = self._without_stored(part)
        is_missing = self._rows.is_missing(part)
        if not is_missing.any():
            return list(part)
        missing = [position for position, is_own in zip(part, is_missing, strict=True) if is_own]
        is_held = np.zeros(len(missing), np.bool_)
        if self._is_patient:
            most = len(missing) if self._is_first else self._size(claims, len(missing))
            is_held = ~claims.take(self._rows.ids(missing), most)
        held = {position for position, is_own in zip(missing, is_held, strict=True) if is_own}
        self._rows.look(is_needed=not self._is_first)  # what was published before its claim was given back is seen
        left = self._without_stored(missing)
        later = [at for at, is_own in zip(left, self._rows.is_missing(left), strict=True) if is_own and at in held]
        self._later += later
        gone = set(later) | set(missing).difference(left)
        return [position for position in part if position not in gone]

    def _without_stored(self, positions: Sequence[int]) -> list[int]:
        gone = set[int]()
        for position in self._rows.published_since(positions):
            self._num_adopted += 1
            proves = self._num_adopted & (self._num_adopted - 1) == 0  # 1, 2, 4, 8, ...
            if self._adopt(position, proves):
                self.done(position)
                gone.add(position)
        return [position for position in positions if position not in gone]

    def _size(self, claims: Claims, left: int) -> int:
        """Samples of the next claim: whole batches."""
        row_s, count = self._row_s(), self._most
        if row_s > 0:
            count = min(count, claims.span_s / row_s)
        self._most *= 2
        if claims.num_others:
            count = min(count, left / (_SHARE_OF_LEFT * (claims.num_others + 1)))
        return max(1, int(min(count, MOST_CLAIMED // 4)) // self._batch_size) * self._batch_size


def claims_of(opened: Opened) -> Claims:
    """What one builder claims in the folder of a recipe, or in its store."""
    remote = opened.sharing.remote
    return LockedClaims(opened.folder / "claims") if remote is None else remote.claims()


def _wait(seconds: float) -> None:
    time.sleep(seconds)
