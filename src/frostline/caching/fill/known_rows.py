"""Which samples of a fill have rows: when it began, and by what other builders have published since.

Legend: B some samples.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from frostline.caching.keys import as_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from frostline.caching.fill.fill_plan import Samples
    from frostline.caching.store.claims import Ids
    from frostline.caching.store.opening import Opened

_LOOK_SHARE = 0.05  # of the time, for reading what others publish while there is something else to do


class KnownRows:
    """The rows of one recipe, for the samples of one fill.

    Args:
        opened: The recipe's folder.
        samples: Of the fill.

    Attributes:
        before: What was stored when the fill began.
        now: That, and what others have published up to the last look.
    """

    def __init__(self, opened: Opened, samples: Samples) -> None:
        self._opened, self._samples = opened, samples
        self.before = self.now = opened.rows()
        self._content = b""
        self._look_s, self._looked = 0.0, time.monotonic()

    def follow_places(self, content: bytes) -> None:
        """Keys follow from items that are not read yet: until then a sample is known by its place.

        Args:
            content: A digest of some items: other data of the same length have other ids.
        """
        self._content = content

    def look(self, *, is_needed: bool) -> None:
        """Read what others have published meanwhile; where it is not needed, only if it takes little time."""
        started = time.monotonic()
        if (is_needed or started - self._looked >= self._look_s / _LOOK_SHARE) and self._opened.has_news():
            self._opened.refresh()
            self.now = self._opened.rows()
            self._looked = time.monotonic()
            self._look_s = self._looked - started

    def has(self, index: int) -> bool:
        """Whether a sample whose key is known has a row now."""
        return self.now.has(self._samples.keys[index])

    def had(self, index: int) -> bool:
        """Whether it had one when the fill began."""
        return self.before.has(self._samples.keys[index])

    def is_missing(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        """(B,) whether they may have no row now; any may have none whose key is not known."""
        if self._content:
            return np.ones(len(indices), np.bool_)
        return self.now.find(self._keys(indices)) < 0

    def published_since(self, indices: Sequence[int]) -> list[int]:
        """Those whose rows others have published since the fill began, as far as keys are known."""
        if self._content or self.now is self.before:
            return []
        keys = self._keys(indices)
        is_new = (self.now.find(keys) >= 0) & (self.before.find(keys) < 0)
        return [index for index, is_own in zip(indices, is_new, strict=True) if is_own]

    def ids(self, indices: Sequence[int]) -> Ids:
        """(B,) what the samples are claimed by."""
        if self._content:
            return place_ids(indices, self._content)
        return as_words(self._keys(indices))[:, 0].copy()

    def _keys(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        return self._samples.keys[np.array(indices, np.int64)]


def place_ids(indices: Sequence[int], content: bytes) -> Ids:
    """(B,) ids of samples whose keys are not known: they follow from the place, and the content of some samples."""
    with np.errstate(over="ignore"):
        mixed = np.array(indices, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.frombuffer(content[:8], np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        return mixed ^ (mixed >> np.uint64(31))
