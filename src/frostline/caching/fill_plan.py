"""The plan of a fill: which samples are known, which must be read, and which rows must be computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.keys import KEY_BYTES, offered_keys
from frostline.caching.mapped_shard import KEYS
from frostline.core import inputs as batches
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.caching.opening import Opened
    from frostline.caching.rows import Rows


@dataclass(frozen=True)
class FillPlan:
    """What one fill does; `print` it.

    Attributes:
        num_samples: Samples of the dataset.
        num_rows: Rows that are stored, those of other datasets with the same frozen part included.
        known: Positions of samples whose rows are stored, a range where they follow on each other. None where keys
            follow from the items, which are not read.
        recalled: Positions of known samples that need not be read: their targets and inputs are known without items.
        row_s: Seconds to read a sample and to compute its row, as the last fill has measured; 0 where none has.
        views: Of each sample; every view counts as a sample here.
    """

    num_samples: int
    num_rows: int
    known: Sequence[int] | None = None
    recalled: Sequence[int] = ()
    row_s: float = 0.0
    views: int = 1

    @property
    def read(self) -> list[int]:
        """Positions of the samples that are read."""
        recalled = self.recalled if isinstance(self.recalled, range) else set(self.recalled)
        return [at for at in range(self.num_samples) if at not in recalled]

    @property
    def num_missing(self) -> int:
        """Rows to compute; where keys follow from the items, as if every stored row were one of theirs."""
        return max(0, self.num_samples - (self.num_rows if self.known is None else len(self.known)))

    def reading_all(self) -> FillPlan:
        """The same with every sample read."""
        return replace(self, recalled=())

    def __str__(self) -> str:
        each = f" ({self.views} views of {self.num_samples // self.views:,})" if self.views > 1 else ""
        text = f"{self.num_samples:,} samples{each}, {self.num_samples - len(self.recalled):,} to read"
        if self.known is None:
            return f"{text}; their keys follow from their content, and {self.num_rows:,} rows are stored"
        return f"{text}, {self.num_missing:,} rows to compute, {len(self.known):,} stored"


class Samples:
    """What a fill collects of the samples of a dataset: key, target, and inputs that go straight to the head.

    Args:
        count: How many there are.
        names: Frontier names of the inputs that go straight to the head.

    Attributes:
        keys: (count, 16).
        targets: By position.
    """

    def __init__(self, count: int, names: Sequence[str]) -> None:
        self.names = list(names)
        self.keys: NDArray[np.uint8] = np.zeros((count, KEY_BYTES), np.uint8)
        self.targets: list[Any] = [None] * count
        self._passed: list[dict[str, Tensor]] = [{}] * (count if names else 0)

    def take(self, index: int, target: Any, inputs: Any) -> None:
        """A sample whose item was read."""
        self.targets[index] = target
        if self.names:
            found = batches.leaves(batches.map_arrays(inputs))
            missing = next((own for name in self.names if (own := name.removeprefix("input.")) not in found), None)
            if missing is not None:
                raise _missing_input(missing, index, list(found))
            self._passed[index] = {name: found[name.removeprefix("input.")].cpu() for name in self.names}

    def recall(self, index: int, target: Any, passed: dict[str, Tensor]) -> None:
        """A sample that is known without its item."""
        self.targets[index] = target
        if self.names:
            self._passed[index] = passed

    def own_inputs(self, index: int) -> dict[str, Tensor]:
        """Inputs of a sample that go straight to the head."""
        return self._passed[index] if self.names else {}

    def passed(self) -> dict[str, Tensor]:
        """(count, ...) by name, once all samples are known."""
        return {name: torch.stack([own[name] for own in self._passed]) for name in self.names}


def _missing_input(name: str, index: int, found: Sequence[str]) -> DataError:
    return DataError(
        what=f"Sample {index} has no input {name!r}, which goes straight to the trainable part.",
        where=f"the dataset, sample {index}", received=f"inputs {', '.join(map(repr, found))}",
        do="give every sample, those of validation data too, the inputs that the example has (a weight of 1, a mask of "
        "ones); or train with frostline.fit(..., cache=False).",
    )  # fmt: skip


def plan_fill(dataset: Any, samples: Samples, rows: Rows, opened: Opened) -> FillPlan:
    """Plan a fill, and note keys, targets and inputs of samples that need not be read.

    Args:
        dataset: A map-style dataset; one without `sample_key` is read whole.
        samples: Takes what is known.
        rows: What is stored.
        opened: The recipe's folder.
    """
    row_s = opened.manifest.row_s
    if not hasattr(dataset, "sample_key"):
        return FillPlan(len(samples.targets), len(rows), row_s=row_s)
    samples.keys[:] = offered_keys(dataset)
    known = _positions(np.nonzero(rows.find(samples.keys) >= 0)[0])
    target_of = getattr(dataset, "target", None)
    passed = _passed_before(samples, known, opened.snapshots()) if target_of is not None and samples.names else {}
    recalled = () if target_of is None else tuple(passed) if samples.names else known
    for index in recalled:
        samples.recall(index, target_of(index), passed.get(index, {}))  # pyright: ignore[reportOptionalCall]
    return FillPlan(len(samples.targets), len(rows), known, recalled, row_s)


def _positions(found: NDArray[np.int64]) -> Sequence[int]:
    """The positions as a range where they follow on each other, which takes no memory, else one by one."""
    if len(found) and found[-1] - found[0] + 1 == len(found):
        return range(int(found[0]), int(found[-1]) + 1)
    return tuple(found.tolist())


def _passed_before(
    samples: Samples, known: Sequence[int], snapshots: Sequence[Mapping[str, Tensor]]
) -> dict[int, dict[str, Tensor]]:
    """Inputs for the head of known samples, from the last snapshot that holds them; they follow from the content."""
    places: dict[bytes, tuple[Mapping[str, Tensor], int]] = {}
    for snapshot in snapshots:
        if {KEYS, *samples.names} <= set(snapshot):
            places.update({key.tobytes(): (snapshot, at) for at, key in enumerate(snapshot[KEYS].numpy())})
    found = {index: places.get(samples.keys[index].tobytes()) for index in known}
    return {
        index: {name: place[0][name][place[1]] for name in samples.names}
        for index, place in found.items()
        if place is not None
    }
