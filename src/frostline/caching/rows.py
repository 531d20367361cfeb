"""The rows of one recipe: where the row of a sample key lies.

Legend: M rows of all shards, N samples of a dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frostline.caching.keys import KEY_BYTES, as_words
from frostline.caching.shards import KEYS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.caching.manifests import Manifest
    from frostline.caching.shards import Shards


class Rows:
    """An index over the sample keys of a manifest's shards.

    Args:
        shards: The mapped shards.
        manifest: Which shards count.
    """

    def __init__(self, shards: Shards, manifest: Manifest) -> None:
        self.shards, self.names = shards, manifest.shards
        keys = [self.shards.open(name)[KEYS].numpy() for name in self.names]
        self.keys: NDArray[np.uint8] = np.concatenate(keys) if keys else np.empty((0, KEY_BYTES), np.uint8)
        self.starts = np.cumsum([0, *(len(part) for part in keys)])
        self._order = np.argsort(as_words(self.keys), kind="stable")
        self._words = as_words(self.keys)[self._order]

    def find(self, keys: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The row number of each key (N, 16), or -1."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self._words, as_words(keys)), len(self._words) - 1)
        found = self._order[at]
        is_same = (self.keys[found] == keys).all(axis=1)
        for odd in np.nonzero(~is_same & (self._words[at] == as_words(keys)))[0]:
            found[odd], is_same[odd] = self._search_half_alike(keys[odd], int(at[odd]))
        return np.where(is_same, found, -1)

    def locate(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(number of the shard, row within it) of each row number."""
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        return torch.from_numpy(shard.astype(np.int64)), torch.from_numpy(rows - self.starts[shard])

    def _search_half_alike(self, key: NDArray[np.uint8], at: int) -> tuple[int, bool]:
        """Two keys may share their first half: look at the neighbours too."""
        word = self._words[at]
        while at < len(self._words) and self._words[at] == word:
            if (self.keys[self._order[at]] == key).all():
                return int(self._order[at]), True
            at += 1
        return -1, False
