"""The folder of a cache: fill it, list it, verify it, purge it."""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.caching.fill import Filling, progress_bar
from frostline.caching.keys import recipe_key
from frostline.caching.lengths import of_any_length
from frostline.caching.manifest import MANIFEST_NAME, read_newest
from frostline.caching.opening import open_folder
from frostline.caching.part import ChecksBatches
from frostline.caching.proofs import PROOF_NAME
from frostline.caching.shard_writer import MERGE_LOCK
from frostline.caching.shards import SHARD_NAME, Shards
from frostline.caching.views import viewed
from frostline.core import io
from frostline.core.arguments import as_count, as_name, as_path, check_flag
from frostline.core.doors import public
from frostline.core.errors import CacheError, DataError
from frostline.core.given_rows import GivenRows
from frostline.core.inputs import describe
from frostline.core.io import Damaged, disk_errors, is_temporary, names_in, remove, remove_unlocked, status
from frostline.core.restore import kept_generators

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.caching.cached_dataset import CachedDataset
    from frostline.caching.earlier import Earlier
    from frostline.caching.fill_plan import FillPlan
    from frostline.caching.opening import Opened
    from frostline.caching.part import FrozenPart
    from frostline.core.padding import Padding

_RECIPE = re.compile(r"[0-9a-f]{32}")
_FOLDERS = {"manifests": MANIFEST_NAME, "shards": SHARD_NAME, "set-aside": SHARD_NAME, "proofs": PROOF_NAME}


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
    """

    recipe: str
    rows: int
    bytes: int
    tensors: tuple[str, ...]
    written_by: str
    views: int = 1

    def cells(self) -> tuple[str, ...]:
        """The entry as a row of a table, under `CELLS`."""
        size = f"{self.bytes / 1e6:.1f} MB"
        return self.recipe[:12], str(self.rows), str(self.views), size, ", ".join(self.tensors)


CELLS = ("recipe", "rows", "views", "size", "tensors")


class FeatureCache:
    """A folder of stored features; every set of frozen layers has a folder of its own inside.

    Args:
        root: The folder; it is made, readable by its owner only, when it is first filled.

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

    def __init__(self, root: str | Path) -> None:
        root = as_path("FeatureCache", "root", root)
        with disk_errors("find", root):  # the current folder may be gone
            self.root = root.absolute()  # here and now: a later chdir must not make it another one
        self._shards: dict[str, Shards] = {}  # a shard that this process has mapped is not read again

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_shards": {}}

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
        samples, padding = of_any_length(split, dataset, collate_fn)
        data = fill_as_planned(
            self, split, viewed(samples, "fill", views), batch_size, num_workers, progress=progress, padding=padding
        )
        head = getattr(split, "head", None)
        if isinstance(head, ChecksBatches):
            given = head.given or GivenRows()
            head.check_batches_with(given)
            data.note_given(given)
        return data

    @public("FeatureCache.plan")
    def plan(self, split: FrozenPart, dataset: Any, *, views: int | None = None) -> FillPlan:
        """What `fill` would do: samples that are known, that must be read, whose rows must be computed; `print` it.

        Args:
            split: The frozen part.
            dataset: A map-style dataset.
            views: As `fill` takes them.

        Returns:
            The plan; nothing is computed, and nothing is read but one item where views are asked for.

        Raises:
            CacheError: If the folder cannot be read.
        """
        _check_part(split)
        with kept_generators():
            return Filling(self._opened(split), split, viewed(dataset, "plan", views), 1, 0).plan()

    def _opened(self, split: FrozenPart) -> Opened:
        folder = self.root / recipe_key(split)
        shards = self._shards.setdefault(folder.name, Shards(folder / "shards"))
        return open_folder(folder, shards, tuple(split.frontier))

    def entries(self) -> tuple[CacheEntry, ...]:
        """What the cache holds, one entry per recipe."""
        found: list[CacheEntry] = []
        for folder in self._folders():
            _, manifest, _ = read_newest(folder / "manifests")
            with disk_errors("read", folder):
                size = sum(_size_of(path) for path in folder.rglob("*"))
            names = tuple(str(tensor[0]) for tensor in manifest.tensors)
            found.append(CacheEntry(folder.name, sum(manifest.rows), size, names, manifest.written_by, manifest.views))
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
        chosen = self._folders(*_FOLDERS)  # a run that was refused may have left a proof and no rows
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
        return sum(_delete(folder) for folder in chosen)

    def _folders(self, *kinds: str) -> list[Path]:
        """Folders of recipes that hold a folder of one of these kinds; of manifests, if none is named."""
        with disk_errors("list", self.root):
            folders = [self.root / name for name in names_in(self.root) if _RECIPE.fullmatch(name)]
            owned = kinds or ("manifests",)
            return [own for own in folders if _is_folder(own) and any(_is_folder(own / kind) for kind in owned)]


def fill_as_planned(
    cache: FeatureCache, split: FrozenPart, dataset: Any, batch_size: int, num_workers: int = 0, *, progress: bool,
    on_plan: Callable[[FillPlan], None] = lambda _: None, is_fresh: bool = False, earlier: Earlier | None = None,
    padding: Padding | None = None,
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
    """
    with kept_generators():
        opened = cache._opened(split)
        before, filling = opened.manifest, Filling(opened, split, dataset, batch_size, num_workers, earlier, padding)
        plan = filling.plan()
        on_plan(plan)
        with progress_bar(len(dataset), is_shown=progress, views=plan.views) as advance:
            data = filling.run(plan, advance, is_fresh=is_fresh)
    if opened.manifest != before:
        opened.collect()
    return data


def _is_folder(path: Path) -> bool:
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _size_of(path: Path) -> int:
    """Bytes of a regular file; none of one that is gone by now."""
    found = status(path)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0


def _check_part(part: Any) -> None:
    lacking = [name for name in ("recipe", "frontier", "extract") if not hasattr(part, name)]
    if lacking or isinstance(part, type):
        raise DataError(
            what="This is not a frozen part.", where="fill(split)", received=describe(part),
            do="pass what frostline.split(model, example) gives.",
        )  # fmt: skip


def _delete(folder: Path) -> int:
    """Delete our files and then the folders that are empty; returns bytes."""
    freed = 0
    for kind, names in _FOLDERS.items():
        own = folder / kind
        with disk_errors("delete files in", own):
            for path in [own / name for name in names_in(own)]:
                size = _size_of(path)
                if is_temporary(path.name, names):  # one that is being written stays, and with it its folder
                    is_gone = remove_unlocked(path)
                else:
                    is_gone = names.fullmatch(path.name) is not None and not _is_folder(path) and remove(path)
                freed += size if is_gone else 0
    with disk_errors("delete", folder / MERGE_LOCK):
        remove(folder / MERGE_LOCK)
    for empty in (*(folder / kind for kind in _FOLDERS), folder):
        with suppress(OSError):  # somebody else's files are in it, or it is not there
            io.call(empty.rmdir)
    return freed
