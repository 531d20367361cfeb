"""Evicts recipes from a cache that has grown too large or too old; what is in use stays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.caching.use import evictable, last_used

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_DAY_S = 86400.0


@dataclass(frozen=True)
class Eviction:
    """What `FeatureCache.prune` did.

    Attributes:
        freed_bytes: Bytes of what was deleted.
        evicted: Recipes that were deleted, the one that was used longest ago first.
        in_use: Recipes that should have gone, and are used by somebody.
        kept_bytes: Bytes that are left in the cache.
    """

    freed_bytes: int
    evicted: tuple[str, ...]
    in_use: tuple[str, ...]
    kept_bytes: int

    def __str__(self) -> str:
        count = len(self.evicted)
        text = f"{count} recipe{'' if count == 1 else 's'} evicted, {self.freed_bytes / 1e6:.1f} MB freed; "
        text += f"{self.kept_bytes / 1e6:.1f} MB are left"
        return text + (f"; in use, and therefore kept: {', '.join(r[:12] for r in self.in_use)}" if self.in_use else "")


def evict(
    folders: Sequence[Path], size_of: Callable[[Path], int], delete: Callable[[Path], int],
    max_bytes: int | None, unused_days: float | None,
) -> Eviction:  # fmt: skip
    """Delete recipes that were used longest ago, as `FeatureCache.prune` does.

    Args:
        folders: Of the recipes.
        size_of: Bytes of a folder.
        delete: Deletes one, and gives the bytes that were freed.
        max_bytes: Bytes that may stay; None sets no limit.
        unused_days: Recipes that were not used for so long go in any case; None keeps them.
    """
    used = {folder: last_used(folder) for folder in folders}
    sizes = {folder: size_of(folder) for folder in folders}
    left, freed, now = sum(sizes.values()), 0, time.time()
    evicted: list[str] = []
    in_use: list[str] = []
    for folder in sorted(folders, key=lambda own: (used[own], own.name)):
        is_old = unused_days is not None and now - used[folder] > unused_days * _DAY_S
        if not is_old and (max_bytes is None or left <= max_bytes):
            continue
        with evictable(folder) as is_free:
            if not is_free:
                in_use.append(folder.name)
                continue
            freed += delete(folder)
        left -= sizes[folder]
        evicted.append(folder.name)
    return Eviction(freed, tuple(evicted), tuple(in_use), left)
