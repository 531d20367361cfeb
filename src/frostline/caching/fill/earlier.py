"""An earlier fill of the same dataset: its keys and targets, and rows from which rows of a higher line are computed.

Legend: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.fill.fill_plan import FillPlan, Samples, positions
from frostline.core import inputs as batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.caching.part import FrozenPart
    from frostline.caching.reading.cached_dataset import CachedDataset
    from frostline.caching.store.rows import Rows


@dataclass(frozen=True)
class Earlier:
    """An earlier fill of the same dataset, in the same order, at another frost line.

    Attributes:
        data: Its result. Samples are not read again for their keys and targets.
        middle: callable() -> the frozen part between its line and the new one, which takes its features as inputs;
            None where its line is not below the new one. Called only if rows are missing.
    """

    data: CachedDataset
    middle: Callable[[], FrozenPart | None] | None = None

    def plan(self, samples: Samples, rows: Rows, row_s: float) -> FillPlan:
        """The plan of a fill, with keys and targets as they were; samples with other inputs for the head are read."""
        gatherer, targets = self.data._gatherer, self.data._targets
        samples.keys[:] = gatherer.keys.numpy()
        found = rows.find(samples.keys)
        known = positions(len(found), lambda part: found[part] >= 0, rows.shards.folder)
        has_passed = set(samples.names) <= set(gatherer.passed)
        for index in range(len(samples.targets)) if has_passed else ():
            passed = {name: gatherer.passed[name][index] for name in samples.names}
            samples.recall(index, _at(targets, index), passed)
        return FillPlan(len(samples.targets), len(rows), row_s, known, known if has_passed else ())

    def climb(self, part: FrozenPart) -> Climb | None:
        """What computes rows of this part from those of the earlier line; None where it cannot."""
        middle = self.middle() if self.middle is not None else None
        if middle is None or any(tensor.is_input or tensor.shared for tensor in part.frontier):
            return None
        ours, theirs = ([(t.name, t.shape, t.dtype) for t in own.frontier] for own in (part, middle))
        return Climb(self.data, middle) if ours == theirs else None


@dataclass(frozen=True)
class Climb:
    """Computes rows of a higher frost line from stored rows of a lower one."""

    data: CachedDataset
    middle: FrozenPart

    def rows(self, indices: list[int]) -> dict[str, Tensor]:
        """Rows (B, *shape) of these samples by name, where the model is."""
        samples = torch.tensor(indices, dtype=torch.int64, device="cpu")
        self.data._gatherer.check_keys(samples)
        found = self.middle.extract(self.data._gatherer.features(samples))
        return dict(zip((tensor.name for tensor in self.middle.frontier), found, strict=True))


def _at(targets: Any, index: int) -> Any:
    return batches.map_tensors(targets, lambda tensor: tensor[index])
