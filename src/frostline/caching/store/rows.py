"""The rows of one recipe: where the row of a sample key lies.

Legend: M rows of all shards, N samples of a dataset.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frostline.caching.keys import KEY_BYTES, as_words
from frostline.caching.store.mapped_shard import KEYS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.caching.store.mapped_shard import Shard
    from frostline.caching.store.shards import Shards


class Rows:
    """An index over the sample keys of some shards.

    Args:
        shards: Where they lie.
        names: Their names.
        mapped: The shards, held: the collector leaves what is mapped.
    """

    def __init__(self, shards: Shards, names: tuple[str, ...], mapped: list[Shard]) -> None:
        self.shards, self.names, self.mapped = shards, names, mapped
        self._parts: list[NDArray[np.uint8]] = [tensors[KEYS].numpy() for tensors in mapped]
        self.starts = np.cumsum([0, *(len(part) for part in self._parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def keys(self) -> NDArray[np.uint8]:
        """(M, 16), in memory; a dataset whose rows lie in its own order is found without them."""
        return np.concatenate(self._parts) if self._parts else np.empty((0, KEY_BYTES), np.uint8)

    def _are(self, keys: NDArray[np.uint8]) -> bool:
        """True if these are the keys of all rows, in their order; where they are mapped, nothing is copied."""
        parts = zip(self._parts, self.starts, strict=False)
        return len(keys) == len(self) and all(
            np.array_equal(as_words(keys[first : first + len(part)]), as_words(part)) for part, first in parts
        )

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """(row numbers, first halves of their keys) in the order of the halves."""
        words = as_words(self.keys)[:, 0]
        order = np.argsort(words, kind="stable")
        return order, words[order]

    def find(self, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The row number of each key (N, 16), or -1; a dataset that is filled again is known by one comparison."""
        if self._are(keys):
            return np.arange(len(keys))
        if not len(self):
            return np.full(len(keys), -1, np.int64)
        order, words = self._sorted
        asked = as_words(keys)[:, 0]
        at = np.minimum(np.searchsorted(words, asked), len(words) - 1)
        found = order[at]
        is_same = (as_words(self.keys)[found] == as_words(keys)).all(axis=1)
        for odd in np.nonzero(~is_same & (words[at] == asked))[0]:
            found[odd], is_same[odd] = self._search_half_alike(keys[odd], int(at[odd]))
        return np.where(is_same, found, -1)

    def locate(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(number of the shard, row within it) of each row number."""
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        return torch.from_numpy(shard.astype(np.int64)), torch.from_numpy(rows - self.starts[shard])

    def _search_half_alike(self, key: NDArray[np.uint8], at: int) -> tuple[int, bool]:
        """Two keys may share their first half: look at the neighbours too."""
        order, words = self._sorted
        word = words[at]
        while at < len(words) and words[at] == word:
            if (self.keys[order[at]] == key).all():
                return int(order[at]), True
            at += 1
        return -1, False
