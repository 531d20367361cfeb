"""Claims in a store: numbered objects, each created by one builder alone.

A store has no locks, and clocks of machines differ. A claim counts until its builder deletes it, or until another one
has seen it unchanged for longer than any builder needs, by its own clock.
"""

from __future__ import annotations

import re
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from frostline.caching.store.claims import ID_BYTES, MOST_CLAIMED, NONE_CLAIMED, first_free, ids_in
from frostline.core.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from frostline.caching.store.claims import Ids
    from frostline.core.shelf import Shelf

STORE_CLAIM_NAME = re.compile(r"\d{8,18}")
_DEAD_S = 120.0  # a builder publishes what it has claimed within half a minute, and uploads half a gigabyte
_TRIES = 8  # others may take the next number
_HOLDER_BYTES, _COUNT_BYTES = 16, 4
_MOST_PADDING = 1024  # of random length: a name that is used again shows by the size of its object, which is listed


class StoreClaims:
    """The claims of one builder in a store, or none where the store cannot be written.

    Args:
        shelf: The cache in the store.
        folder: Of the claims of one recipe.
    """

    span_s, patience_s = 10.0, 20.0

    def __init__(self, shelf: Shelf, folder: str) -> None:
        self._shelf, self._folder, self._holder = shelf, folder, uuid.uuid4().bytes
        self._own: dict[str, Ids] = {}
        self._seen: dict[tuple[str, int], tuple[float, bytes]] = {}  # (name, size): since when, content
        self._last, self._is_off, self.num_others = 0, False, 0

    def take(self, ids: Ids, most: int) -> NDArray[np.bool_]:
        """Claim samples, so many at most; True for those that nobody alive holds, which are this builder's now."""
        free = np.ones(len(ids), np.bool_)

        def claim() -> None:
            for _ in range(_TRIES):
                free[:] = first_free(ids, self._of_others(), most)
                if not free.any() or self._create(ids[free]):
                    return
            free[:] = False

        self._try(claim)
        return free

    def give_back(self, ids: Ids) -> None:
        """The rows of these are published, or will not be computed."""

        def delete() -> None:
            for name, own in list(self._own.items()):
                self._own[name] = np.setdiff1d(own, ids)
                if not len(self._own[name]):
                    self._shelf.delete(self._in(name))
                    del self._own[name]

        self._try(delete)

    def close(self) -> None:
        """Give back everything."""
        names, self._own = list(self._own), {}
        with suppress(CacheError):
            for name in names:
                self._shelf.delete(self._in(name))

    def _try(self, change: Callable[[], None]) -> None:
        if self._is_off:
            return
        try:
            change()
        except CacheError:
            self._is_off = True
            self.close()

    def _create(self, ids: Ids) -> bool:
        """Whether this builder was the first to create an object of the next number."""
        self._last += 1
        name = f"{self._last:08d}"
        padding = b"\0" * (uuid.uuid4().int % _MOST_PADDING)
        content = self._holder + len(ids).to_bytes(_COUNT_BYTES, "little") + ids.tobytes() + padding
        if not self._shelf.create_first(self._in(name), content):
            return False
        self._own[name] = ids
        return True

    def _of_others(self) -> Ids:
        """What builders hold that are alive, as far as can be seen; claims of dead ones are deleted."""
        there = {(name, size) for name, size in self._shelf.sizes(self._folder).items()
                 if STORE_CLAIM_NAME.fullmatch(name) and name not in self._own}  # fmt: skip
        names = [name for name, _ in there] + list(self._own)
        self._last = max(map(int, names), default=0)
        now, self._seen = time.monotonic(), {own: seen for own, seen in self._seen.items() if own in there}
        found, holders = [NONE_CLAIMED], set[bytes]()
        for own in sorted(there):
            since, content = self._seen.get(own) or (now, self._read(own[0]))
            self._seen[own] = since, content
            if now - since > _DEAD_S:
                self._shelf.delete(self._in(own[0]))
                continue
            count = int.from_bytes(content[_HOLDER_BYTES : _HOLDER_BYTES + _COUNT_BYTES], "little")
            found.append(ids_in(content[_HOLDER_BYTES + _COUNT_BYTES :])[:count])
            holders.add(content[:_HOLDER_BYTES])
        self.num_others = len(holders)
        return np.concatenate(found)

    def _read(self, name: str) -> bytes:
        return self._shelf.read(self._in(name), max_bytes=ID_BYTES * 2 * MOST_CLAIMED) or b""

    def _in(self, name: str) -> str:
        return f"{self._folder}/{name}"
