"""What a cache holds: its recipes, rows and files; bytes that serve readers, and bytes that wait to be deleted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.caching.store.manifest import MANIFEST_NAME
from frostline.caching.store.proofs import PROOF_NAME
from frostline.caching.store.shards import SHARD_NAME
from frostline.caching.store.storage_type import EXACT
from frostline.core.new_files import is_temporary

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

    from frostline.caching.location.local_recipe import StoredRecipe
    from frostline.caching.store.manifest import Manifest

ENTRY_CELLS = ("recipe", "rows", "views", "size", "last used", "stored as", "tensors")
CELLS = ("recipe", "rows", "shards", "live", "dead", "leftovers", "last used")


@dataclass(frozen=True)
class CacheEntry:
    """One recipe of a cache.

    Attributes:
        recipe: Its key, the name of its folder.
        rows: Stored rows.
        bytes: Size on disk.
        tensors: Names of the frontier tensors.
        written_by: Versions and time of the newest manifest.
        views: The most views of one sample among the rows.
        used: When its rows were last used, in seconds since 1970.
        storage: How the rows are rounded: `exact`, `float16`, `bfloat16` or `int8`.
        error: The largest error of a value, relative to the largest value of its row.
    """

    recipe: str
    rows: int
    bytes: int
    tensors: tuple[str, ...]
    written_by: str
    views: int = 1
    used: float = 0.0
    storage: str = EXACT
    error: float = 0.0

    def cells(self) -> tuple[str, ...]:
        """The entry as a row of a table, under `ENTRY_CELLS`."""
        size, used = f"{self.bytes / 1e6:.1f} MB", time.strftime("%Y-%m-%d", time.localtime(self.used))
        stored = self.storage if self.storage == EXACT else f"{self.storage}, error {self.error:.1e}"
        return self.recipe[:12], str(self.rows), str(self.views), size, used, stored, ", ".join(self.tensors)


@dataclass(frozen=True)
class RecipeStats:
    """The files of one recipe.

    Attributes:
        recipe: Its key, the name of its folder.
        rows: Stored rows; a sample with several views has several.
        shards: Files with rows.
        manifests: Manifests, those that are not whole included.
        live_bytes: Bytes of the shards, snapshots and manifests that a reader needs, and of the proofs.
        dead_bytes: Bytes of shards that no manifest needs any more; a later fill deletes them.
        leftovers: Files that were not finished, or were damaged and set aside.
        leftover_bytes: Bytes of these.
        used: When rows were last used, in seconds since 1970.
    """

    recipe: str
    rows: int = 0
    shards: int = 0
    manifests: int = 0
    live_bytes: int = 0
    dead_bytes: int = 0
    leftovers: int = 0
    leftover_bytes: int = 0
    used: float = 0.0

    def cells(self) -> tuple[str, ...]:
        """The entry as a row of a table, under `CELLS`."""
        left = f"{self.leftovers} ({_megabytes(self.leftover_bytes)})" if self.leftovers else ""
        used = time.strftime("%Y-%m-%d", time.localtime(self.used)) if self.used else ""
        live, dead = _megabytes(self.live_bytes), _megabytes(self.dead_bytes) if self.dead_bytes else ""
        return self.recipe[:12], str(self.rows), str(self.shards), live, dead, left, used


@dataclass(frozen=True)
class CacheStats:
    """The files of a cache; the whole and each recipe.

    Attributes:
        recipes: One entry per recipe.
        rows: Stored rows of all recipes; so are the numbers below.
        shards: Files with rows.
        live_bytes: Bytes that readers need.
        dead_bytes: Bytes of replaced shards, which a later fill deletes.
        leftovers: Files that were not finished, or were damaged and set aside.
        leftover_bytes: Bytes of these.
        used: When any of it was last used, in seconds since 1970; 0 for an empty cache.
    """

    recipes: tuple[RecipeStats, ...]
    rows: int
    shards: int
    live_bytes: int
    dead_bytes: int
    leftovers: int
    leftover_bytes: int
    used: float

    def __str__(self) -> str:
        recipes, shards = _counted(len(self.recipes), "recipe"), _counted(self.shards, "shard")
        text = f"{recipes}, {self.rows} rows in {shards}, {_megabytes(self.live_bytes)}"
        if self.dead_bytes:
            text += f"; {_megabytes(self.dead_bytes)} of replaced shards, which a later fill deletes"
        if self.leftovers:
            text += f"; {self.leftovers} unfinished or damaged files ({_megabytes(self.leftover_bytes)})"
        return text


def entry_of(recipe: StoredRecipe, manifest: Manifest) -> CacheEntry:
    """What a recipe holds, by what its manifests say together.

    Raises:
        CacheError: If it cannot be read now.
    """
    names = tuple(str(tensor[0]) for tensor in manifest.tensors)
    return CacheEntry(recipe.name, sum(manifest.rows), recipe.num_bytes(), names, manifest.written_by, manifest.views,
                      recipe.last_used(), manifest.storage, manifest.error)  # fmt: skip


def stats_of(recipes: Sequence[tuple[StoredRecipe, Manifest]]) -> CacheStats:
    """The numbers of recipes and of what their manifests say; no row is read: the cache's size is not the cost.

    Raises:
        CacheError: If a folder cannot be read now.
    """
    found = tuple(_of_recipe(*own) for own in recipes)
    return CacheStats(
        recipes=found,
        rows=sum(own.rows for own in found),
        shards=sum(own.shards for own in found),
        live_bytes=sum(own.live_bytes for own in found),
        dead_bytes=sum(own.dead_bytes for own in found),
        leftovers=sum(own.leftovers for own in found),
        leftover_bytes=sum(own.leftover_bytes for own in found),
        used=max((own.used for own in found), default=0.0),
    )


def _of_recipe(recipe: StoredRecipe, manifest: Manifest) -> RecipeStats:
    needed = set(manifest.names())
    shards, unfinished = _whole(recipe.sizes("shards"), SHARD_NAME)
    manifests, others = _whole(recipe.sizes("manifests"), MANIFEST_NAME)
    proofs, third = _whole(recipe.sizes("proofs"), PROOF_NAME)
    aside, _ = _whole(recipe.sizes("set-aside"), SHARD_NAME)
    left = [*unfinished.values(), *others.values(), *third.values(), *aside.values()]
    live = sum(size for name, size in shards.items() if name in needed)
    return RecipeStats(
        recipe=recipe.name, rows=sum(manifest.rows), shards=len(manifest.shards), manifests=len(manifests),
        live_bytes=live + sum(manifests.values()) + sum(proofs.values()),
        dead_bytes=sum(shards.values()) - live, leftovers=len(left), leftover_bytes=sum(left),
        used=recipe.last_used(),
    )  # fmt: skip


def _whole(sizes: Mapping[str, int], names: re.Pattern[str]) -> tuple[dict[str, int], dict[str, int]]:
    """(bytes of whole files, bytes of unfinished ones) by name; files of other people count as neither."""
    whole = {name: size for name, size in sizes.items() if names.fullmatch(name)}
    unfinished = {name: size for name, size in sizes.items() if name not in whole and is_temporary(name, names)}
    return whole, unfinished


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
