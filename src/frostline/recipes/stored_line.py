"""A frost line of a run with the features stored at it, and what a fill at a higher line takes from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from frostline.caching import CachedDataset, Earlier, Proofs
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.splitting import remembered_split

if TYPE_CHECKING:
    from torch import nn

    from frostline.splitting import Split

SHOWN = 32  # samples that a split is made from where values steer the model: fewer may not show that some are padded


@dataclass(frozen=True)
class StoredLine:
    """A frost line of the run, and what is stored at it.

    Attributes:
        frozen: Names of the frozen parameters.
        head: The part above the line.
        data: Features of each dataset, by the argument of `fit`.
    """

    frozen: frozenset[str]
    head: nn.Module
    data: Mapping[str, CachedDataset]

    def __str__(self) -> str:
        figures = [data.figures for data in self.data.values()]
        names = ", ".join(tensor.name for tensor in next(iter(self.data.values())).frontier)
        reused, computed = sum(own.reused for own in figures), sum(own.computed for own in figures)
        return f"rows at {names}: {reused:,} reused, {computed:,} computed"

    def earlier(self, where: str, now: frozenset[str], proofs: Proofs) -> Earlier:
        """What a fill of this dataset takes from here, at the line where the parameters `now` are frozen."""
        data = self.data[where]
        return Earlier(data, partial(self._middle, data, proofs) if self.frozen < now else None)

    def _middle(self, data: CachedDataset, proofs: Proofs) -> Split | None:
        """The layers between this line and the present one; None where they cannot be split off."""
        device = next(self.head.parameters()).device
        features, _ = next(iter(data.loader(min(len(data), SHOWN), device=device)))
        try:
            return remembered_split(self.head, features, proofs)
        except (SplitError, NotCacheable, DataError):
            return None  # the rows are computed from the items
