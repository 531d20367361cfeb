"""Deletes recipes that a cache which has grown too large or too old can do without."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.caching.location.local_recipe import StoredRecipe

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


def evict(recipes: Sequence[StoredRecipe], max_bytes: int | None, unused_days: float | None) -> Eviction:
    """Delete recipes that were used longest ago, as `FeatureCache.prune` does.

    Args:
        recipes: Of the cache.
        max_bytes: Bytes that may stay; None sets no limit.
        unused_days: Recipes that were not used for so long go in any case; None keeps them.
    """
    used = {recipe.name: recipe.last_used() for recipe in recipes}
    sizes = {recipe.name: recipe.num_bytes() for recipe in recipes}
    left, freed, now = sum(sizes.values()), 0, time.time()
    evicted: list[str] = []
    in_use: list[str] = []
    for recipe in sorted(recipes, key=lambda own: (used[own.name], own.name)):
        is_old = unused_days is not None and now - used[recipe.name] > unused_days * _DAY_S
        if not is_old and (max_bytes is None or left <= max_bytes):
            continue
        with recipe.evictable() as is_free:
            if not is_free:
                in_use.append(recipe.name)
                continue
            freed += recipe.delete()
        left -= sizes[recipe.name]
        evicted.append(recipe.name)
    return Eviction(freed, tuple(evicted), tuple(in_use), left)
