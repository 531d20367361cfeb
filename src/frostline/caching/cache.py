"""The folder of a cache: fill it, list it, verify it, and delete what is in it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.caching.eviction import FOLDERS, bytes_of, delete_recipe, evict, is_folder
from frostline.caching.fill import Filling, progress_bar
from frostline.caching.forgotten import Forgotten
from frostline.caching.frozen_pass import faster_part
from frostline.caching.keys import recipe_key
from frostline.caching.lengths import of_any_length
from frostline.caching.manifest import read_newest
from frostline.caching.opening import open_folder
from frostline.caching.part import ChecksBatches
from frostline.caching.ray_builders import Order, RayBuilders, check_engine, sent
from frostline.caching.shards import Shards
from frostline.caching.storage import EXACT, Storage, check_storage
from frostline.caching.use import in_use, last_used
from frostline.caching.views import viewed
from frostline.core.arguments import as_count, as_frozen_pass, as_name, as_number, as_path, check_flag
from frostline.core.doors import public
from frostline.core.errors import CacheError, DataError
from frostline.core.given_rows import GivenRows
from frostline.core.inputs import check_map_style, describe
from frostline.core.io import Damaged, disk_errors, names_in
from frostline.core.restore import kept_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.caching.builders import Builders
    from frostline.caching.cached_dataset import CachedDataset
    from frostline.caching.earlier import Earlier
    from frostline.caching.eviction import Eviction
    from frostline.caching.fill_plan import FillPlan
    from frostline.caching.opening import Opened
    from frostline.caching.part import FrozenPart
    from frostline.core.padding import Padding

_RECIPE = re.compile(r"[0-9a-f]{32}")


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
        """The entry as a row of a table, under `CELLS`."""
        size, used = f"{self.bytes / 1e6:.1f} MB", time.strftime("%Y-%m-%d", time.localtime(self.used))
        stored = self.storage if self.storage == EXACT else f"{self.storage}, error {self.error:.1e}"
        return self.recipe[:12], str(self.rows), str(self.views), size, used, stored, ", ".join(self.tensors)


CELLS = ("recipe", "rows", "views", "size", "last used", "stored as", "tensors")


class FeatureCache:
    """A folder of stored features; every set of frozen layers has a folder of its own inside.

    Args:
        root: The folder; it is made, readable by its owner only, when it is first filled.
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

    def __init__(self, root: str | Path, *, engine: str = "local") -> None:
        self.engine = check_engine("FeatureCache", engine)
        root = as_path("FeatureCache", "root", root)
        with disk_errors("find", root):  # the current folder may be gone
            self.root = root.absolute()  # here and now: a later chdir must not make it another one
        self._shards: dict[str, Shards] = {}  # a shard that this process has mapped is not read again

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.root)!r})"

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
            self, part, viewed(samples, "fill", views), batch_size, num_workers, progress=progress, padding=padding,
            storage=storage, builders=builders_of(self, part, dataset, batch_size, num_workers, engine=engine,
                                                  storage=storage, views=views, collate_fn=collate_fn),
        )  # fmt: skip
        head = getattr(split, "head", None)
        if isinstance(head, ChecksBatches):
            given = head.given or GivenRows()
            head.check_batches_with(given)
            data.note_given(given)
        return data

    @public("FeatureCache.plan")
    def plan(self, split: FrozenPart, dataset: Any, *, views: int | None = None, storage: str = EXACT) -> FillPlan:
        """What `fill` would do: samples that are known, that must be read, whose rows must be computed; `print` it.

        Args:
            split: The frozen part.
            dataset: A map-style dataset.
            views: As `fill` takes them.
            storage: As `fill` takes it.

        Returns:
            The plan; nothing is computed, and nothing is read but one item where views are asked for.

        Raises:
            CacheError: If the folder cannot be read.
        """
        _check_part(split)
        own = Storage(check_storage("plan", storage), split)
        with kept_generators():
            return Filling(self._opened(own), split, viewed(dataset, "plan", views), 1, 0, storage=own).plan()

    def _opened(self, storage: Storage) -> Opened:
        folder = self.root / recipe_key(storage.part)
        shards = self._shards.setdefault(folder.name, Shards(folder / "shards"))
        return open_folder(folder, shards, storage.frontier)

    def entries(self) -> tuple[CacheEntry, ...]:
        """What the cache holds, one entry per recipe."""
        found: list[CacheEntry] = []
        for folder in self._folders():
            _, manifest, _ = read_newest(folder / "manifests")
            names = tuple(str(tensor[0]) for tensor in manifest.tensors)
            found.append(CacheEntry(folder.name, sum(manifest.rows), bytes_of(folder), names, manifest.written_by,
                                    manifest.views, last_used(folder), manifest.storage, manifest.error))  # fmt: skip
        return tuple(found)

    def verify(self) -> tuple[str, ...]:
        """Check every shard against the digest in its name; returns what is wrong, nothing if all is well."""
        problems: list[str] = []
        for folder in self._folders():
            _, manifest, notes = read_newest(folder / "manifests")
            problems += [f"{folder.name}: {note}" for note in notes]
            for name in manifest.names():
                try:
                    Shards(folder / "shards").open(name)
                except Damaged as error:
                    if name in read_newest(folder / "manifests")[1].names():  # else a fill replaced it meanwhile
                        problems.append(f"{folder.name}: {error.where}: {error.received}")
                except CacheError as error:
                    problems.append(f"{folder.name}: {error.where}: {error.received}; it could not be read now")
        return tuple(problems)

    def purge(self, recipe: str | None = None) -> int:
        """Delete one recipe, or all of them; nothing else in the folder is touched.

        Args:
            recipe: The key of the recipe; its first letters are enough.

        Returns:
            Bytes that were freed.

        Raises:
            CacheError: If no recipe, or more than one, begins like this.
        """
        chosen = self._folders(*FOLDERS)  # a run that was refused may have left a proof and no rows
        if recipe is not None:
            if not isinstance(recipe, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                recipe = as_name("purge", "recipe", recipe)
            chosen = [folder for folder in chosen if recipe and folder.name.startswith(recipe)]
        if recipe is not None and len(chosen) != 1:
            raise CacheError(
                what=f"{'No' if not chosen else 'More than one'} recipe begins with {recipe!r}.",
                where=str(self.root),
                received=", ".join(folder.name[:12] for folder in self._folders()) or "an empty cache",
                do="see `frostline cache ls` for the keys.",
            )
        return sum(delete_recipe(folder) for folder in chosen)

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
        return evict(self._folders(*FOLDERS), max_bytes, unused_days)

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
            return sum(samples.delete_from(folder) for folder in self._folders())

    def _folders(self, *kinds: str) -> list[Path]:
        """Folders of recipes that hold a folder of one of these kinds; of manifests, if none is named."""
        with disk_errors("list", self.root):
            folders = [self.root / name for name in names_in(self.root) if _RECIPE.fullmatch(name)]
            owned = kinds or ("manifests",)
            return [own for own in folders if is_folder(own) and any(is_folder(own / kind) for kind in owned)]


def fill_as_planned(
    cache: FeatureCache, split: FrozenPart, dataset: Any, batch_size: int, num_workers: int = 0, *, progress: bool,
    on_plan: Callable[[FillPlan], None] = lambda _: None, is_fresh: bool = False, earlier: Earlier | None = None,
    padding: Padding | None = None, storage: str = EXACT, builders: Builders | None = None,
) -> CachedDataset:  # fmt: skip
    """As `FeatureCache.fill`, with arguments that were checked.

    Args:
        cache: The cache.
        split: The frozen part.
        dataset: A map-style dataset.
        batch_size: Samples per pass of the frozen part.
        num_workers: Worker processes that read items.
        progress: Show a progress bar.
        on_plan: Gets the plan before anything is computed.
        is_fresh: The part was recorded by this very call: it is recorded again before anything is published, not
            at the start too.
        earlier: A fill of the same dataset at another frost line: items are not read for their keys, and rows of a
            higher line are computed from those of the lower one.
        padding: How samples of differing size become a batch, as `of_any_length` finds it.
        storage: How features lie on the disk.
        builders: Who reads the samples; None: this process.
    """
    own = Storage(storage, split)
    with in_use(cache.root / recipe_key(own.part)), kept_generators():
        if own.rounded and earlier is not None:  # rows that were rounded give others than the items do
            earlier = replace(earlier, middle=None)
        opened = cache._opened(own)
        before = opened.manifest
        filling = Filling(opened, split, dataset, batch_size, num_workers, earlier, padding, own, builders)
        plan = filling.plan()
        on_plan(plan)
        with progress_bar(len(dataset), is_shown=progress, views=plan.views) as advance:
            data = filling.run(plan, advance, is_fresh=is_fresh)
    if storage != EXACT:
        data.notes = (*data.notes, own.text(data.figures.error))
    if opened.manifest != before:
        opened.collect()
    return data


def builders_of(
    cache: FeatureCache, part: FrozenPart, dataset: Any, batch_size: int, num_workers: int, *, engine: str,
    storage: str = EXACT, views: int | None = None, collate_fn: Any = None,
) -> Builders | None:  # fmt: skip
    """Who reads the samples of a fill; None for this process.

    Args:
        cache: The cache.
        part: The frozen part, which follows the lengths of samples by now if they differ.
        dataset: As the caller has it.
        batch_size: Samples per pass.
        num_workers: Processes that read, of each actor.
        engine: As `fill` takes it.
        storage: As `fill` takes it.
        views: As `fill` takes them.
        collate_fn: As `fill` takes it.

    Raises:
        DataError: If Ray is not installed, or the part cannot be sent.
    """
    if engine == "local":
        return None
    return RayBuilders(Order(cache, sent(part), dataset, batch_size, num_workers, views, collate_fn, storage,
                             dict(part.recipe), fill_as_planned))  # fmt: skip


def _check_part(part: Any) -> None:
    lacking = [name for name in ("recipe", "frontier", "extract") if not hasattr(part, name)]
    if lacking or isinstance(part, type):
        raise DataError(
            what="This is not a frozen part.", where="fill(split)", received=describe(part),
            do="pass what frostline.split(model, example) gives.",
        )  # fmt: skip
