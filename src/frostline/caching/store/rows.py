"""The rows of one recipe: where the row of a sample key lies.

Legend: M rows of all shards, N samples of a dataset, B some of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.keys import as_words
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.span import Span
from frostline.core.disk_array import disk_array, row_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from frostline.caching.store.mapped_shard import Shard
    from frostline.caching.store.shards import Shards

_AT_ONCE = 2**17  # keys that are looked up together: some megabytes


class Rows:
    """An index over the sample keys of some shards; what it holds of each row lies on the disk.

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

    def keys_of(self, rows: NDArray[Any]) -> NDArray[np.uint64]:
        """(B, 2) the keys of these row numbers, as words."""
        shard, row = self._places(rows)
        span = self._span
        return as_words(span.gather(span.starts(torch.from_numpy(shard), torch.from_numpy(row))).numpy())

    def find(self, keys: NDArray[np.uint8]) -> NDArray[Any]:
        """The row number of each key (N, 16), or -1; a dataset that is filled again is known by one comparison.

        Of rows that are stored twice it is the first.
        """
        found = disk_array((len(keys),), row_type(len(self)), self.shards.folder)
        if self._are_all_keys(keys):
            for part in _parts(len(keys)):
                found[part] = np.arange(part.start, part.stop)
            return found
        for part in _parts(len(keys)):
            found[part] = self._found(as_words(keys[part])) if len(self) else -1
        return found

    def has(self, key: NDArray[np.uint8]) -> bool:
        """Whether a row has this key, (16,); for one key it is several times faster than `find`."""
        bits, words = int(self._bits), self._sorted
        part = int(as_words(key)[0]) << bits & 2**64 - 1
        at = int(np.searchsorted(words, np.uint64(part)))
        while at < len(words) and (word := int(words[at])) >> bits == part >> bits:
            shard, row = (int(own) for own in self._places(np.int64(word & 2**bits - 1)))
            if self._parts[shard][row].tobytes() == key.tobytes():
                return True
            at += 1
        return False

    def locate(self, rows: NDArray[Any]) -> tuple[list[int], Tensor, Tensor]:
        """(the shards that hold these row numbers, number of the shard among them, row within it)."""
        folder, counts = self.shards.folder, np.zeros(len(self.names), np.int64)
        shard_N = disk_array((len(rows),), row_type(len(self.names)), folder)
        row_N = disk_array((len(rows),), row_type(int(np.diff(self.starts).max(initial=0))), folder)
        for part in _parts(len(rows)):
            shard_N[part], row_N[part] = self._places(rows[part])
            counts += np.bincount(shard_N[part], minlength=len(counts))
        used = np.nonzero(counts)[0]
        if len(used) < len(counts):
            among = np.cumsum(counts > 0) - 1
            for part in _parts(len(rows)):
                shard_N[part] = among[shard_N[part]]
        return used.tolist(), torch.from_numpy(shard_N), torch.from_numpy(row_N)

    def doubles(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row numbers whose key another row keeps, the shards of these others); large shards keep theirs."""
        alike = [np.empty(0, np.int64)]
        bits, words = self._bits, self._sorted
        for part in _parts(max(0, len(self) - 1)):
            own = words[part.start : part.stop + 1]
            at = np.nonzero(own[1:] >> bits == own[:-1] >> bits)[0]
            alike.append(self._numbers(own[np.union1d(at, at + 1)]))
        rows = np.unique(np.concatenate(alike))  # a row at the edge of two parts is in both
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        by_size = np.argsort(-np.diff(self.starts)[shard], kind="stable")
        rows, shard = rows[by_size], shard[by_size]
        if not len(rows):
            return rows, shard
        _, first, inverse = np.unique(self.keys_of(rows), axis=0, return_index=True, return_inverse=True)
        keeper = first[inverse.reshape(-1)]
        is_double = keeper != np.arange(len(rows))
        dropped, owner = rows[is_double], shard[keeper[is_double]]
        order = np.argsort(dropped)
        return dropped[order], owner[order]

    def _are_all_keys(self, keys: NDArray[np.uint8]) -> bool:
        """True if these are the keys of all rows, in order; mapped keys are compared without a copy."""
        parts = zip(self._parts, self.starts, strict=False)
        return len(keys) == len(self) and all(
            np.array_equal(as_words(keys[first + at.start : first + at.stop]), as_words(part[at]))
            for part, first in parts
            for at in _parts(len(part))
        )

    def _places(self, rows: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(number of the shard, row within it) of each row number."""
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        return shard, rows - self.starts[shard]

    @cached_property
    def _span(self) -> Span:
        return Span(KEYS, [torch.from_numpy(part) for part in self._parts])

    @property
    def _bits(self) -> np.uint64:
        """That hold a row number."""
        return np.uint64(max(1, len(self).bit_length()))

    @cached_property
    def _sorted(self) -> NDArray[np.uint64]:
        """(M,) of each row a part of its key, and behind it the row number: one word, sorted in place."""
        words = disk_array((len(self),), np.uint64, self.shards.folder)
        for keys, first in zip(self._parts, self.starts, strict=False):
            for part in _parts(len(keys)):
                numbers = np.arange(first + part.start, first + part.stop, dtype=np.uint64)
                words[first + part.start : first + part.stop] = (as_words(keys[part])[:, 0] << self._bits) | numbers
        words.sort()
        return words

    def _numbers(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row numbers in words of the index."""
        return (words & ((np.uint64(1) << self._bits) - np.uint64(1))).astype(np.int64)

    def _found(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row number of each key (B, 2), or -1; rows that share a part of it are compared one after the other."""
        found, words, bits = np.full(len(keys), -1, np.int64), self._sorted, self._bits
        asked = keys[:, 0] << bits
        left = np.argsort(asked)  # in their order, what is looked up lies near what was looked up before
        at = np.searchsorted(words, asked[left])
        while len(left):
            is_there = at < len(words)
            left, at = left[is_there], at[is_there]
            candidates = words[at]
            is_alike = candidates >> bits == asked[left] >> bits
            left, at, rows = left[is_alike], at[is_alike], self._numbers(candidates[is_alike])
            is_same = (self.keys_of(rows) == keys[left]).all(axis=1)
            found[left[is_same]] = rows[is_same]
            left, at = left[~is_same], at[~is_same] + 1
        return found


def _parts(count: int) -> Iterator[slice]:
    """Pieces of so many numbers that are worked on together."""
    return (slice(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE))
