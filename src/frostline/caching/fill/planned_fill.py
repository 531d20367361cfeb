"""A fill whose arguments were checked: opened, planned, carried out by whoever its builders are, and tidied up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.caching.fill.fill import Filling, progress_bar
from frostline.caching.fill.ray_builders import Order, RayBuilders, sent
from frostline.caching.keys import recipe_key
from frostline.caching.location.use import in_use
from frostline.caching.store.storage_type import EXACT, Storage
from frostline.core.io import Damaged
from frostline.core.restore import kept_generators

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.caching.fill.builders import Builders
    from frostline.caching.fill.earlier import Earlier
    from frostline.caching.fill.fill_plan import FillPlan
    from frostline.caching.location.location import Location
    from frostline.caching.part import FrozenPart
    from frostline.caching.reading.cached_dataset import CachedDataset
    from frostline.core.padding import Padding

_TRIES = 8  # damaged shards that one fill finds one after the other


def fill_as_planned(
    location: Location, split: FrozenPart, dataset: Any, batch_size: int, num_workers: int = 0, *, progress: bool,
    on_plan: Callable[[FillPlan], None] = lambda _: None, is_fresh: bool = False, earlier: Earlier | None = None,
    padding: Padding | None = None, storage: str = EXACT, builders: Builders | None = None,
) -> CachedDataset:  # fmt: skip
    """As `FeatureCache.fill`, with arguments that were checked.

    Args:
        location: Of the cache.
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
    recipe = recipe_key(own.part)
    shards = location.shards(recipe)
    with in_use(shards.folder.parent, shards.sharing), kept_generators():
        if own.rounded and earlier is not None:  # rows that were rounded give others than the items do
            earlier = replace(earlier, middle=None)
        tries = _TRIES
        while True:
            opened = location.opened(recipe, own.frontier)
            before = opened.manifest
            filling = Filling(opened, split, dataset, batch_size, num_workers, earlier, padding, own, builders)
            plan = filling.plan()
            on_plan(plan)
            try:
                with progress_bar(len(dataset), is_shown=progress, views=plan.views) as advance:
                    data = filling.run(plan, advance, is_fresh=is_fresh)
                break
            except Damaged:  # a shard, on its first use: it was set aside, and its rows are missing from now on
                tries -= 1
                if not tries or (builders is not None and not builders.can_begin_again):
                    raise
    if storage != EXACT:
        data.notes = (*data.notes, own.text(data.figures.error))
    if opened.manifest != before:
        opened.collect()
        location.bound_copies()
    return data


def builders_of(
    location: Location, part: FrozenPart, dataset: Any, batch_size: int, num_workers: int, *, engine: str,
    storage: str = EXACT, views: int | None = None, collate_fn: Any = None,
) -> Builders | None:  # fmt: skip
    """Who reads the samples of a fill; None for this process.

    Args:
        location: Of the cache.
        part: The frozen part, which follows the lengths of samples by now if they differ.
        dataset: As the caller has it.
        batch_size: Samples per pass.
        num_workers: Processes that read, of each actor.
        engine: As `fill` takes it.
        storage: As `fill` takes it.
        views: As `fill` takes them.
        collate_fn: As `fill` takes it.

    Raises:
        DataError: If Ray is not installed, the part cannot be sent, or the cache lies in the memory of this process.
    """
    if engine == "local":
        return None
    location.check_reached("fill(engine='ray')")
    return RayBuilders(Order(location, sent(part), dataset, batch_size, num_workers, views, collate_fn, storage,
                             dict(part.recipe), fill_as_planned))  # fmt: skip
