"""The folder of a cache: fill it, list it, verify it, and delete what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.caching.fill.fill import Filling
from frostline.caching.fill.frozen_pass import faster_part
from frostline.caching.fill.planned_fill import builders_of, fill_as_planned
from frostline.caching.fill.ray_builders import check_engine
from frostline.caching.keys import recipe_key
from frostline.caching.location.local_recipe import FOLDERS
from frostline.caching.location.location import Location
from frostline.caching.part import ChecksBatches
from frostline.caching.reading.exported_rows import Exported, recipe_table, write_table
from frostline.caching.samples.lengths import of_any_length
from frostline.caching.samples.views import viewed
from frostline.caching.store.manifest import read_newest
from frostline.caching.store.mapped_shard import WRONG_CONTENT
from frostline.caching.store.shards import Shards
from frostline.caching.store.storage_type import EXACT, Storage, check_storage
from frostline.caching.upkeep.eviction import evict
from frostline.caching.upkeep.forgotten import Forgotten
from frostline.caching.upkeep.stats import CacheEntry, CacheStats, entry_of, stats_of
from frostline.core.arguments import as_count, as_frozen_pass, as_name, as_number, check_flag
from frostline.core.doors import public
from frostline.core.errors import CacheError, DataError
from frostline.core.given_rows import GivenRows
from frostline.core.inputs import check_map_style, describe
from frostline.core.io import Damaged
from frostline.core.restore import kept_generators

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from frostline.caching.fill.fill_plan import FillPlan
    from frostline.caching.location.local_recipe import StoredRecipe
    from frostline.caching.part import FrozenPart, Recipe
    from frostline.caching.reading.cached_dataset import CachedDataset
    from frostline.caching.store.manifest import Manifest
    from frostline.caching.upkeep.eviction import Eviction


class FeatureCache:
    """A folder of stored features; every set of frozen layers has a folder of its own inside.

    Args:
        root: The folder; it is made, readable by its owner only, when it is first filled. Or a URL of fsspec, such as
            `s3://bucket/features`: what is used is copied into a folder on this disk.
        storage_options: For the fsspec backend of a URL. They are kept in memory, and sent to the actors of a cluster;
            credentials are better where the store's own tools find them.
        local_folder: Where copies of a URL's files lie; None chooses a folder in your cache home.
        local_bytes: What these copies may take; those that were used longest ago go first, and what is in use stays.
            None is 50 GB.
        key_file: A file outside of the cache with a key, which signs what is written; what it has not signed is
            refused. None takes the file that the variable FROSTLINE_CACHE_KEY names, if it is set.
        engine: Who computes the rows that a fill misses: `local`, the filling process; or `ray`, the processes of a Ray
            cluster, all of which reach the folder under this name.

    Example:
        >>> import tempfile, torch, frostline as fl
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> summary = fl.freeze(model, through="1")
        >>> dataset = torch.utils.data.TensorDataset(torch.randn(10, 8), torch.arange(10) % 3)
        >>> cache = fl.FeatureCache(tempfile.mkdtemp())
        >>> data = cache.fill(fl.split(model, torch.randn(4, 8)), dataset, progress=False)
        >>> data.figures.computed
        10
    """

    def __init__(
        self,
        root: str | Path,
        *,
        storage_options: dict[str, Any] | None = None,
        local_folder: str | Path | None = None,
        local_bytes: int | None = None,
        key_file: str | Path | None = None,
        engine: str = "local",
    ) -> None:
        self.engine = check_engine("FeatureCache", engine)
        self.location = Location(root, storage_options, local_folder, local_bytes, key_file)
        self.root = self.location.root

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.location)!r})"

    @public("fill")
    def fill(
        self,
        split: FrozenPart,
        dataset: Any,
        *,
        batch_size: int = 32,
        num_workers: int = 0,
        progress: bool = True,
        views: int | None = None,
        collate_fn: Any = None,
        storage: str = EXACT,
        frozen_pass: str | Sequence[str] | None = None,
        engine: str | None = None,
    ) -> CachedDataset:
        """Run the frozen part for the samples that are not stored yet, and open the result.

        Args:
            split: The frozen part, usually from `frostline.split`.
            dataset: A map-style dataset of `(inputs, target)`, deterministic unless `views` are given. If it offers
                `sample_key(i)` and `fingerprint`, and its targets can be read without its items, known samples are not
                even read: it offers `target(i)`, or holds the targets of the last fill in an attribute.
            batch_size: Samples per pass of the frozen part.
            num_workers: Worker processes that read items.
            progress: Show a progress bar on standard error.
            views: Of a dataset with random augmentation, store so many views of each sample. Each is drawn with seeds
                of its own, the same in every process; the loader gives one in each epoch. More views than the last
                time compute the new ones alone. None takes the dataset for deterministic, and refuses it if it is not.
            collate_fn: Of samples that differ in length: what the `DataLoader` of an uncached training takes. It may
                only pad. Rows are stored at their own length and padded when they are loaded; `split` takes batches of
                any length from then on.
            storage: How features lie on the disk. `exact`; `float16` or `bfloat16`, half of float32; or `int8` with a
                scale for each channel of a row, a quarter. They are loaded in the model's own dtype, with an error that
                `figures` states. Whole numbers, masks and inputs stay exact.
            frozen_pass: Ways to compute the frozen part in less time, whose rows are rounded in another way and kept
                apart from those of others: `channels_last` (images; used where it is faster, as measured once), `fold`
                (BatchNorms become part of the layer before them), `bf16` (autocast), `compile` (torch.compile of
                frozen blocks). Rows are compared with the plain pass: within 1e-4 of the largest value in float32,
                5e-2 with `bf16`. None is the model's own pass, to the bit.
            engine: As `FeatureCache` takes it, for this fill. With `ray`, the model, the dataset and the cache are sent
                to actors, one for each processor of the cluster (or GPU, if the model is on one): that of
                `ray.init`, of RAY_ADDRESS, or of this machine. Samples of an actor that dies go to another one. None
                is the cache's own.

        Returns:
            The cached dataset, in the order of `dataset`.

        Raises:
            DataError: If the dataset is random, empty, or an item cannot be used; features that are not finite.
            NotCacheable: If a sample's features depend on the other samples of its batch.
            CacheError: If the folder cannot be written, or stored rows are not what the model computes.
        """
        batch_size = as_count("fill", "batch_size", batch_size)
        num_workers = as_count("fill", "num_workers", num_workers, least=0)
        check_flag("fill", "progress", progress)
        _check_part(split)
        check_storage("fill", storage)
        ways = as_frozen_pass("fill", frozen_pass)
        engine = self.engine if engine is None else check_engine("fill", engine)
        samples, padding = of_any_length(split, dataset, collate_fn)
        part = faster_part(split, ways, batch_size, self.root, has_one_size=padding is None)
        data = fill_as_planned(
            self.location, part, viewed(samples, "fill", views), batch_size, num_workers, progress=progress,
            padding=padding, storage=storage,
            builders=builders_of(self.location, part, dataset, batch_size, num_workers, engine=engine,
                                 storage=storage, views=views, collate_fn=collate_fn),
        )  # fmt: skip
        head = getattr(split, "head", None)
        if isinstance(head, ChecksBatches):
            given = head.given or GivenRows()
            head.check_batches_with(given)
            data.note_given(given)
        return data

    @public("FeatureCache.plan")
    def plan(
        self, split: FrozenPart, dataset: Any, *, views: int | None = None, storage: str = EXACT,
        collate_fn: Any = None, frozen_pass: str | Sequence[str] | None = None,
    ) -> FillPlan:  # fmt: skip
        """What `fill` would do: samples that are known, that must be read, whose rows must be computed; `print` it.

        Args:
            split: The frozen part.
            dataset: A map-style dataset.
            views: As `fill` takes them.
            storage: As `fill` takes it.
            collate_fn: As `fill` takes it; `split` takes batches of any length from then on.
            frozen_pass: As `fill` takes them.

        Returns:
            The plan; no row is computed, and nothing is read but one item where views are asked for, and the samples
            whose sizes are compared where a collate function pads.

        Raises:
            DataError: If an option cannot be used.
            NotCacheable: If the frozen part cannot be cached at more than one length.
            CacheError: If the folder cannot be read.
        """
        _check_part(split)
        check_storage("plan", storage)
        ways = as_frozen_pass("plan", frozen_pass)
        samples, padding = of_any_length(split, dataset, collate_fn)
        part = faster_part(split, ways, 32, self.root, has_one_size=padding is None)
        own = Storage(storage, part)
        with kept_generators():
            opened = self.location.opened(recipe_key(own.part), own.frontier)
            seen = viewed(samples, "plan", views)
            return Filling(opened, part, seen, 1, 0, padding=padding, storage=own).plan()

    def _manifest_of(self, recipe: str) -> Manifest:
        shards = self.location.shards(recipe)
        return read_newest(shards.folder.parent / "manifests", shards.sharing)[1]

    def entries(self) -> tuple[CacheEntry, ...]:
        """What the cache holds, one entry per recipe."""
        return tuple(entry_of(own, self._manifest_of(own.name)) for own in self.location.recipes())

    def stats(self) -> CacheStats:
        """Rows, shards and bytes: what readers need, what waits to be deleted, what was left behind; `print` it.

        No row is read. How many samples of a fill were found is in the `figures` of what `fill` gives.

        Raises:
            CacheError: If a folder or a manifest cannot be read now.
        """
        return stats_of([(own, self._manifest_of(own.name)) for own in self.location.recipes(*FOLDERS)])

    def verify(self) -> tuple[str, ...]:
        """Check every shard against the digest in its name; returns what is wrong, nothing if all is well."""
        problems: list[str] = []
        for name in [recipe.name for recipe in self.location.recipes()]:
            problems += [f"{name}: {own}" for own in self._problems_of(name)]
        return tuple(problems)

    def _problems_of(self, recipe: str) -> list[str]:
        shared = self.location.shards(recipe)
        fresh, manifests = Shards(shared.folder, shared.sharing), shared.folder.parent / "manifests"
        _, manifest, notes = read_newest(manifests, shared.sharing)
        problems = list(notes)
        for name in manifest.names():
            try:
                if not fresh.open(name).is_whole():
                    problems.append(f"{fresh.path(name)}: {WRONG_CONTENT}")
            except Damaged as error:
                if name in read_newest(manifests, shared.sharing)[1].names():  # else a fill replaced it meanwhile
                    problems.append(f"{error.where}: {error.received}")
            except CacheError as error:
                problems.append(f"{error.where}: {error.received}; it could not be read now")
            fresh.close(name)
            self.location.bound_copies()
        return problems

    def purge(self, recipe: str | None = None) -> int:
        """Delete one recipe, or all of them; nothing else in the folder is touched.

        Args:
            recipe: The key of the recipe; its first letters are enough.

        Returns:
            Bytes that were freed.

        Raises:
            CacheError: If no recipe, or more than one, begins like this.
        """
        if recipe is not None and not isinstance(recipe, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            recipe = as_name("purge", "recipe", recipe)
        chosen = self.location.recipes(*FOLDERS)  # a run that was refused may have left a proof and no rows
        if recipe is not None:
            chosen = [self._one(chosen, recipe)]
        return sum(own.delete() for own in chosen)

    @public("FeatureCache.export")
    def export(self, path: str | Path, *, recipe: str | None = None) -> Exported:
        """Write the stored rows of one recipe with their ids as one plain file, each sample once.

        `CachedDataset.export` writes those of one dataset, in its order and with its targets.

        Args:
            path: Of the new file: `.safetensors`, or `.parquet` (`pip install 'frostline[parquet]'`). It holds `id`
                (the sample keys) and the features by name, as they are stored: of `int8`, multiply by `NAME scale`.
            recipe: The key of the recipe; its first letters are enough. None takes the only one.

        Returns:
            What was written; `print` it.

        Raises:
            DataError: If the path ends with something else, or something stands there.
            CacheError: If no recipe, or more than one, begins like this; if a file cannot be read or written.
        """
        begin = None if recipe is None else as_name("FeatureCache.export", "recipe", recipe)
        chosen = self._one(self.location.recipes(), begin)
        return write_table(recipe_table(self.location.shards(chosen.name)), path, "FeatureCache.export")

    @public("prune")
    def prune(self, *, max_bytes: int | None = None, unused_days: float | None = None) -> Eviction:
        """Delete the recipes that were used longest ago, whole; a cache serves what is left as before.

        A recipe that another process fills, or has mapped, stays. Where a disk has no locks, nothing is deleted.

        Args:
            max_bytes: Delete until the cache takes so many bytes or fewer; None sets no limit.
            unused_days: Delete what no fill has used for so many days; None keeps it.

        Returns:
            What was deleted, and what should have been and is in use.

        Raises:
            DataError: If neither limit is given.
            CacheError: If the folder cannot be read, or a file not deleted.
        """
        max_bytes = None if max_bytes is None else as_count("prune", "max_bytes", max_bytes, least=0)
        unused_days = None if unused_days is None else as_number("prune", "unused_days", unused_days, least=0.0)
        if max_bytes is None and unused_days is None:
            raise DataError(
                what="Nothing says what should be deleted.", where="prune(max_bytes=..., unused_days=...)",
                received="neither of the two", do="pass a size, an age, or both; FeatureCache.purge() deletes all.",
            )  # fmt: skip
        return evict(self.location.recipes(*FOLDERS), max_bytes, unused_days)

    @public("forget")
    def forget(self, dataset: Any, *, views: int | None = None, collate_fn: Any = None) -> int:
        """Delete the stored rows of some samples for good, under every recipe.

        Files that hold one of their rows are written anew without it, and the old files are deleted at once. A process
        that has one mapped keeps it until it closes it; what a disk does with deleted blocks is up to the disk.

        Args:
            dataset: Holds the samples, as they were filled: the same items, transform and keys. A subset will do.
            views: As they were filled; rows of views that are not asked for stay.
            collate_fn: As they were filled.

        Returns:
            How many rows were deleted; 0 if none was stored.

        Raises:
            DataError: If an item cannot be read.
            CacheError: If a file cannot be written or deleted.
        """
        check_map_style(dataset)
        samples = Forgotten(dataset, views, collate_fn)
        with kept_generators():
            return sum(samples.delete_from(self.location.shards(own.name)) for own in self.location.recipes())

    def _one(self, recipes: list[StoredRecipe], recipe: str | None) -> StoredRecipe:
        """The only one whose name begins like this; None takes any.

        Raises:
            CacheError: If there are none or several.
        """
        chosen = [own for own in recipes if recipe is None or (recipe and own.name.startswith(recipe))]
        if len(chosen) == 1:
            return chosen[0]
        keys = ", ".join(own.name[:12] for own in recipes)
        if not recipes:
            what, do = "This cache holds no features.", "fill it first, with fit(cache=...) or FeatureCache.fill."
        elif not recipe:
            what = "An empty text names no recipe." if recipe is not None else "The cache holds several recipes."
            do = "pass recipe= with the first letters of one; `frostline cache ls` says what each of them holds."
        else:
            what = f"{'More than one' if chosen else 'No'} recipe begins with {recipe!r}."
            do = "pass the first letters of one of these keys; `frostline cache ls` says what each of them holds."
        raise CacheError(what=what, where=str(self.location), received=keys or "an empty cache", do=do)


def holds_rows(cache: FeatureCache, part: Recipe) -> bool:
    """Whether anything is stored under the recipe of this part; a folder that is not there is not made."""
    return cache.location.holds(recipe_key(part))


def _check_part(part: Any) -> None:
    lacking = [name for name in ("recipe", "frontier", "extract") if not hasattr(part, name)]
    if lacking or isinstance(part, type):
        raise DataError(
            what="This is not a frozen part.", where="fill(split)", received=describe(part),
            do="pass what frostline.split(model, example) gives.",
        )  # fmt: skip
