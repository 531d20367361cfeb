"""What several views of each sample cost here: seconds and bytes, measured on a few samples."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.caching.samples.views import Views
from frostline.core import io
from frostline.core.collate import collate
from frostline.core.errors import FOREIGN, CacheError, FrostlineError
from frostline.core.io import disk_errors
from frostline.core.units import seconds_text, size_text

if TYPE_CHECKING:
    from pathlib import Path

    from frostline.caching.part import FrozenPart
    from frostline.core.item_form import ItemForm

NUM_VIEWS = 4  # that an error proposes, with what they cost
_MEASURED = 8  # samples


@dataclass(frozen=True)
class ViewCost:
    """What the views of a dataset cost once.

    Attributes:
        num_samples: Samples of the dataset.
        views: Of each.
        row_s: Seconds to read a sample and to run the frozen part for it, in one process.
        row_bytes: Bytes of its features.
    """

    num_samples: int
    views: int
    row_s: float
    row_bytes: int

    def __str__(self) -> str:
        """In one line: seconds and bytes."""
        rows = self.num_samples * self.views
        return (
            f"views={self.views} takes about {seconds_text(rows * self.row_s)} and {size_text(rows * self.row_bytes)} "
            f"once, on this machine, for {self.num_samples:,} samples"
        )


def measured_cost(part: FrozenPart, dataset: Any, form: ItemForm, batch_size: int) -> ViewCost | None:
    """The cost of a few views, as some samples show it; None where they cannot be read or computed.

    Args:
        part: The frozen part.
        dataset: A map-style dataset with random items.
        form: Which parts of an item are inputs.
        batch_size: Samples of one pass, of which a few are measured.
    """
    views, chosen = Views(dataset, 1), range(min(_MEASURED, batch_size, len(dataset)))
    try:
        views[0]  # the first read opens files
        started = time.perf_counter()
        items = [form.unpack(views[index], index)[0] for index in chosen]
        read_s = time.perf_counter() - started
        batch = collate(items, chosen)
        part.extract(batch)  # the first pass allocates
        started = time.perf_counter()
        part.extract(batch)
        row_s = (read_s + time.perf_counter() - started) / len(chosen)
    except (FrostlineError, *FOREIGN):  # the error of the random dataset is shown all the same
        return None
    return ViewCost(len(dataset), NUM_VIEWS, row_s, bytes_of_row(part))


def bytes_of_row(part: FrozenPart) -> int:
    """Bytes that the cache stores for a sample."""
    return sum(tensor.bytes_per_sample for tensor in part.frontier if not tensor.shared)


def check_room(folder: Path, views: Views, num_missing: int, row_bytes: int) -> None:
    """Raise if the disk has no room for all views, before the first is computed.

    Args:
        folder: Where they go.
        views: The dataset.
        num_missing: Rows to compute.
        row_bytes: Bytes of one.

    Raises:
        CacheError: It says how many views fit.
    """
    with disk_errors("look for free space in", folder):
        free = io.call(shutil.disk_usage, folder).free
    if num_missing * row_bytes <= free:
        return
    num_samples = len(views) // views.count
    num_stored = len(views) - num_missing
    fitting = min(views.count - 1, (num_stored + free // row_bytes) // num_samples)
    raise CacheError(
        what="The disk has no room for so many views.", where=f"{folder}, views={views.count}",
        received=f"{num_missing:,} rows of {size_text(row_bytes)}: {size_text(num_missing * row_bytes)} needed, "
        f"{size_text(free)} free",
        do=(f"pass views={fitting}, which fit; " if fitting >= 1 else "not one view of all samples fits: ")
        + "freeze more layers, whose features are smaller, or put the cache on a larger disk.",
    )  # fmt: skip
