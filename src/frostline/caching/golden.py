"""Golden rows: stored rows that are recomputed before anything else is trusted or published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.core import inputs as batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from frostline.caching.frozen_pass import Computer

GOLDEN_ROWS = 16


class Golden:
    """Some of the known samples that pass by, spread evenly over all of them.

    Args:
        computer: Runs the frozen part.
        stored: Gives the stored rows of samples, by index.
        batch_size: Samples per pass.
    """

    def __init__(
        self, computer: Computer, stored: Callable[[list[int]], dict[str, Tensor]], batch_size: int
    ) -> None:  # fmt: skip
        self.computer, self.stored, self.batch_size = computer, stored, batch_size
        self._kept: list[tuple[int, Any]] = []
        self._seen, self._stride = 0, 1

    def offer(self, index: int, inputs: Any) -> None:
        """A known sample passes by: every so-many-th is kept, at most twice as many as are needed."""
        if self._seen % self._stride == 0:
            self._kept.append((index, inputs))
        self._seen += 1
        if len(self._kept) == 2 * GOLDEN_ROWS:
            self._kept, self._stride = self._kept[::2], 2 * self._stride

    def check(self) -> None:
        """Recompute what was kept, and forget it.

        Raises:
            CacheError: If a stored row is not what the model computes today.
        """
        chosen = [self._kept[at] for at in spread(len(self._kept))]
        self._kept, self._seen, self._stride = [], 0, 1
        for start in range(0, len(chosen), self.batch_size):
            part = chosen[start : start + self.batch_size]
            indices = [index for index, _ in part]
            batch = batches.collate([inputs for _, inputs in part], indices)
            found = self.computer.compute(batch, indices)
            self.computer.check_golden(found, self.stored(indices), indices)


def spread(count: int, most: int = GOLDEN_ROWS) -> list[int]:
    """At most `most`, and at most GOLDEN_ROWS, positions from the first to the last of `count`."""
    chosen = min(count, most, GOLDEN_ROWS)
    return np.unique(np.linspace(0, count - 1, chosen).astype(int)).tolist() if count else []
