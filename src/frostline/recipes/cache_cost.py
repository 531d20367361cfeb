"""What a cache costs and saves in one run, estimated before it is filled."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.core import store_rates
from frostline.core.units import seconds_text, size_text

if TYPE_CHECKING:
    from frostline.caching import FillPlan, FrozenPart


@dataclass(frozen=True)
class CacheCost:
    """Seconds that the frozen part costs in one run, with a cache and without; what the head costs is left out.

    Attributes:
        num_samples: Samples of an epoch.
        num_missing: Samples whose rows are not stored yet.
        num_epochs: Epochs.
        row_s: Seconds to read a sample and to run the frozen part for it.
        row_bytes: Bytes of its features.
    """

    num_samples: int
    num_missing: int
    num_epochs: int
    row_s: float
    row_bytes: int

    @property
    def fill_s(self) -> float:
        """Seconds to fill the cache."""
        return self.num_missing * (self.row_s + store_rates.FILL_ROW_S + self.row_bytes / store_rates.FILL_BYTES_PER_S)

    @property
    def epochs_s(self) -> float:
        """Seconds to gather features in all epochs."""
        return self.num_epochs * self.num_samples * self.row_bytes / store_rates.EPOCH_BYTES_PER_S

    @property
    def uncached_s(self) -> float:
        """Seconds of the frozen part in all epochs without a cache."""
        return self.num_epochs * self.num_samples * self.row_s

    @property
    def pays(self) -> bool:
        """True if this run is quicker with a cache."""
        return self.fill_s + self.epochs_s < self.uncached_s

    def __str__(self) -> str:
        epochs = "1 epoch" if self.num_epochs == 1 else f"{self.num_epochs} epochs"
        verdict = "saves time" if self.pays else "saves no time"
        text = (
            f"A cache {verdict} in this run: the frozen part takes about {seconds_text(self.uncached_s)} for "
            f"{self.num_samples:,} samples in {epochs} without one; with one, filling takes about "
            f"{seconds_text(self.fill_s)} ({self.num_missing:,} rows of {size_text(self.row_bytes)}) and reading "
            f"features {seconds_text(self.epochs_s)}."
        )
        if self.pays:
            return text
        if self.epochs_s < self.uncached_s:
            return (
                f"{text} It pays from the next run with the same frozen part; cache=False (--no-cache) leaves it out."
            )
        return f"{text} The features are too large for it: freeze more layers, or use cache=False (--no-cache)."


def warn_of_cost(part: FrozenPart, num_epochs: int, row_s: float, plan: FillPlan) -> None:
    """Write to standard error, before a cache is filled, if it saves no time in this run.

    Args:
        part: The frozen part.
        num_epochs: Epochs that the rows serve.
        row_s: Seconds to read a sample and to run the frozen part for it, where no fill has measured them.
        plan: Of the fill.
    """
    row_bytes = sum(tensor.bytes_per_sample for tensor in part.frontier if not tensor.shared)
    cost = CacheCost(plan.num_samples // plan.views, plan.num_missing, num_epochs, plan.row_s or row_s, row_bytes)
    if plan.num_missing and not cost.pays:
        sys.stderr.write(f"cache: {cost}\n")
