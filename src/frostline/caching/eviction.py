"""Deletes recipes: one that is named, or those that a cache which has grown too large or too old can do without."""

from __future__ import annotations

import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from frostline.caching.claims import CLAIM_NAME
from frostline.caching.manifest import MANIFEST_NAME
from frostline.caching.proofs import PROOF_NAME
from frostline.caching.shard_writer import MERGE_LOCK
from frostline.caching.shards import SHARD_NAME
from frostline.caching.use import USE_LOCK, evictable, last_used
from frostline.core import io
from frostline.core.io import disk_errors, is_temporary, names_in, remove, remove_unlocked, status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

FOLDERS = {"manifests": MANIFEST_NAME, "shards": SHARD_NAME, "set-aside": SHARD_NAME, "proofs": PROOF_NAME,
           "claims": CLAIM_NAME}  # fmt: skip
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


class StoredRecipe(Protocol):
    """A recipe that may be deleted, on this disk or in a store."""

    @property
    def name(self) -> str:
        """Its key."""
        ...

    def last_used(self) -> float:
        """When its rows were last used, in seconds since 1970."""
        ...

    def num_bytes(self) -> int:
        """Bytes of all its files."""
        ...

    def sizes(self, kind: str) -> dict[str, int]:
        """Bytes of each file in its folder of this kind."""
        ...

    def evictable(self) -> AbstractContextManager[bool]:
        """Inside, no fill of it begins; False if one is under way, or rows are in use."""
        ...

    def delete(self) -> int:
        """Delete it; returns bytes."""
        ...


@dataclass(frozen=True)
class LocalRecipe:
    """A recipe on this disk."""

    folder: Path

    @property
    def name(self) -> str:
        """Its key."""
        return self.folder.name

    def last_used(self) -> float:
        """When its rows were last used, in seconds since 1970."""
        return last_used(self.folder)

    def num_bytes(self) -> int:
        """Bytes of all its files."""
        with disk_errors("read", self.folder):
            return sum(_bytes_below(self.folder / name) for name in names_in(self.folder))

    def sizes(self, kind: str) -> dict[str, int]:
        """Bytes of each file in its folder of this kind; links and folders are left out."""
        with disk_errors("read", self.folder / kind):
            found = {name: status(self.folder / kind / name) for name in names_in(self.folder / kind)}
        return {name: own.st_size for name, own in found.items() if own is not None and stat.S_ISREG(own.st_mode)}

    def evictable(self) -> AbstractContextManager[bool]:
        """Inside, no fill of it begins; False if one is under way, or rows are mapped by anybody."""
        return evictable(self.folder)

    def delete(self) -> int:
        """Delete our files of it; returns bytes."""
        return delete_recipe(self.folder)


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


def delete_recipe(folder: Path) -> int:
    """Delete our files of a recipe and then the folders that are empty; returns bytes."""
    freed = 0
    for kind, names in FOLDERS.items():
        own = folder / kind
        with disk_errors("delete files in", own):
            for path in [own / name for name in names_in(own)]:
                size = _size_of(path)
                if is_temporary(path.name, names):  # one that is being written stays, and with it its folder
                    is_gone = remove_unlocked(path)
                else:
                    is_gone = names.fullmatch(path.name) is not None and not is_folder(path) and remove(path)
                freed += size if is_gone else 0
    for name in (MERGE_LOCK, USE_LOCK):
        with disk_errors("delete", folder / name):
            remove(folder / name)
    for empty in (*(folder / kind for kind in FOLDERS), folder):
        with suppress(OSError):  # somebody else's files are in it, or it is not there
            io.call(empty.rmdir)
    return freed


def _bytes_below(path: Path) -> int:
    return sum(_bytes_below(path / name) for name in names_in(path)) if is_folder(path) else _size_of(path)


def is_folder(path: Path) -> bool:
    """True if a folder stands there, and no link to one."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _size_of(path: Path) -> int:
    """Bytes of a regular file; none of one that is gone by now."""
    found = status(path)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0
