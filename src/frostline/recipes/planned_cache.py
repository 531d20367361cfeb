"""The cache of a run that is planned (`cache="auto"`): what is stored, or nothing where training is quicker without.

What was decided is kept beside the rows of the frozen part: a second start finds the same rows, and a resumed run
trains in the same way, whatever the machine measures then.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.core import io
from frostline.core.errors import FOREIGN, FrostlineError, SplitError
from frostline.core.io import disk_errors
from frostline.splitting import Frame, Point, address_text, as_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from frostline.caching import FeatureCache, Proofs
    from frostline.core.storage_records import Alternative, StoragePlan
    from frostline.splitting import Split

_SCHEMA = "1"  # raise it when plans of before must not be followed
_CACHED = "cached"
_USED = 0.9  # of the free space of the disk, at most


@dataclass(frozen=True)
class PlannedCache:
    """What a planned run does.

    Attributes:
        split: The split whose rows are stored; None: train without a cache.
        plan: With the alternatives; None where an earlier start has decided.
        notes: For people.
    """

    split: Split | None
    plan: StoragePlan | None
    notes: tuple[str, ...]


def planned_cache(
    made: Split, store: FeatureCache, proofs: Proofs, missing: Callable[[Split], int], *, samples: int, rows: int,
    epochs: int, batch_size: int, read_s: float, step_s: float,
) -> PlannedCache:  # fmt: skip
    """Decide what to store, or follow what an earlier start has decided.

    Args:
        made: The split that stores its frontier.
        store: The cache.
        proofs: Of the cache; decisions are kept there too.
        missing: callable(split) -> samples whose rows at this split are not stored yet.
        samples: Of an epoch.
        rows: That the cache would hold: of every view of every sample.
        epochs: Of the run.
        batch_size: Samples of a step.
        read_s: Seconds to read a sample.
        step_s: Seconds of a step of the loop itself.
    """
    run = {**_key(made, "run"), "samples": str(samples), "epochs": str(epochs), "batch size": str(batch_size)}
    for_rows = _key(made, "rows")
    figures = proofs.recall(made, run)
    if figures is not None:
        return _as_before(made, figures)
    budget = _room(store.root) * samples // rows
    earlier = proofs.recall(made, for_rows)
    base = made if earlier is None else _storing(made, earlier)[0]
    try:
        plan = base.plan(samples, epochs=epochs, batch_size=batch_size, budget_bytes=budget, read_s=read_s,
                         missing=missing(base), step_s=step_s)  # fmt: skip
    except (FrostlineError, *FOREIGN) as error:  # the step of the mean of the outputs, which is not the run's own loss
        note = f"the frontier is stored: a step could not be measured ({type(error).__name__}: {str(error)[:200]})"
        return PlannedCache(base, None, (note.splitlines()[0],))
    chosen, own, notes = plan.chosen, base, ()
    if earlier is None and chosen.is_cached:
        own, notes = _followed(made, plan)
    decided = _figures(chosen if own is not made else None) if earlier is None else dict(earlier)
    if chosen.is_cached:
        proofs.keep(made, for_rows, decided)
    proofs.keep(made, run, {**decided, _CACHED: float(chosen.is_cached)})
    return PlannedCache(own if chosen.is_cached else None, plan, (*str(plan).splitlines(), *notes))


def _as_before(made: Split, figures: Mapping[str, float]) -> PlannedCache:
    if not figures.get(_CACHED):
        note = "no cache, as an earlier start of this run has decided; cache=True stores features all the same"
        return PlannedCache(None, None, (note,))
    split, notes = _storing(made, figures)
    return PlannedCache(split, None, notes or ("stored as an earlier start of this run has decided",))


def _followed(made: Split, plan: StoragePlan) -> tuple[Split, tuple[str, ...]]:
    try:
        return made.follow(plan), ()
    except SplitError as error:
        return made, (f"the frontier is stored: {error.what} {error.received}",)


def _storing(made: Split, figures: Mapping[str, float]) -> tuple[Split, tuple[str, ...]]:
    addresses = [as_address(json.loads(text)) for text in figures if text != _CACHED]
    points = frozenset(own for own in addresses if isinstance(own, Point))
    blocks = frozenset(own for own in addresses if isinstance(own, Frame))
    try:
        return made.storing(points, blocks), ()
    except SplitError as error:
        return made, (f"the frontier is stored: {error.what} {error.received}",)


def _figures(chosen: Alternative | None) -> dict[str, float]:
    if chosen is None:
        return {}
    return {json.dumps(address_text(own)): 1.0 for own in (*chosen.points, *chosen.blocks)}


def _key(made: Split, kind: str) -> dict[str, str]:
    return {"storage plan": f"{kind}/{_SCHEMA}", **made.recipe}


def _room(root: Path) -> int:
    """Bytes that a cache may take of the disk."""
    existing: Any = next(own for own in (root, *root.parents) if io.call(own.exists))
    with disk_errors("look for free space in", root):
        return int(_USED * io.call(shutil.disk_usage, existing).free)
