"""The plan of a fill: which samples are known, which must be read, and which rows must be computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.keys import KEY_BYTES, offered_keys
from frostline.caching.samples.columns import Column
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.rows import Rows
from frostline.core import inputs as batches
from frostline.core.disk_array import disk_array, row_type
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from frostline.caching.store.opening import Opened

_AT_ONCE = 2**20  # samples that are looked at together


@dataclass(frozen=True)
class FillPlan:
    """What one fill does; `print` it.

    Attributes:
        num_samples: Samples of the dataset.
        num_rows: Rows that are stored, those of other datasets with the same frozen part included.
        row_s: Seconds to read a sample and to compute its row, as the last fill has measured; 0 where none has.
        known: Positions of samples whose rows are stored, a range where they follow on each other. None where keys
            follow from the items, which are not read.
        recalled: Positions of known samples that need not be read: their targets and inputs are known without items.
        views: Of each sample; every view counts as a sample here.
    """

    num_samples: int
    num_rows: int
    row_s: float
    known: Sequence[int] | None = None
    recalled: Sequence[int] = ()
    views: int = 1

    def read(self, folder: Path | None = None) -> Sequence[int]:
        """Positions of the samples that are read; very many lie in this folder."""
        if not self.recalled:
            return range(self.num_samples)
        is_read = disk_array((self.num_samples,), np.bool_, folder)
        is_read[:] = True
        is_read[as_index(self.recalled)] = False
        return positions(self.num_samples, lambda part: is_read[part], folder)

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


class Positions(Sequence[int]):
    """Positions in order, of some bytes each; they come out as Python's own numbers."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, at: Any) -> Any:
        return self.array[at].tolist()

    def __contains__(self, position: object) -> bool:
        at = int(np.searchsorted(self.array, position))  # pyright: ignore[reportArgumentType,reportCallIssue]
        return at < len(self.array) and self.array[at] == position

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self.array), _AT_ONCE):
            yield from self.array[start : start + _AT_ONCE].tolist()


def positions(
    count: int, is_chosen: Callable[[slice], NDArray[np.bool_]], folder: Path | None = None
) -> Sequence[int]:  # fmt: skip
    """The positions below `count` that are chosen: a range where they follow on each other, which takes no memory."""
    parts = [slice(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE)]
    counts = [int(np.count_nonzero(is_chosen(part))) for part in parts]
    found, at = disk_array((sum(counts),), row_type(count), folder), 0
    for part, own in zip(parts, counts, strict=True):
        found[at : at + own] = np.nonzero(is_chosen(part))[0] + part.start
        at += own
    if len(found) and found[-1] - found[0] + 1 == len(found):
        return range(int(found[0]), int(found[-1]) + 1)
    return Positions(found) if len(found) else ()


def as_index(positions: Sequence[int]) -> Any:
    """What numpy selects these positions by."""
    if isinstance(positions, range) and positions.step == 1:
        return slice(positions.start, positions.stop)
    return positions.array if isinstance(positions, Positions) else np.array(positions, np.int64)


class Samples:
    """What a fill collects of the samples of a dataset: key, target, and inputs that go straight to the head.

    Args:
        count: How many there are.
        names: Frontier names of the inputs that go straight to the head.
        folder: On the disk that takes what is large; None is memory.

    Attributes:
        keys: (count, 16).
        targets: By position.
    """

    def __init__(self, count: int, names: Sequence[str], folder: Path | None = None) -> None:
        self.names = list(names)
        self.keys: NDArray[np.uint8] = disk_array((count, KEY_BYTES), np.uint8, folder)
        self.targets = Column(count, folder)
        self._passed = {name: Column(count, folder) for name in names}

    def take(self, index: int, target: Any, inputs: Any) -> None:
        """A sample whose item was read."""
        passed: dict[str, Tensor] = {}
        if self.names:
            found = batches.leaves(batches.map_arrays(inputs))
            missing = next((own for name in self.names if (own := name.removeprefix("input.")) not in found), None)
            if missing is not None:
                raise _missing_input(missing, index, list(found))
            passed = {name: found[name.removeprefix("input.")].cpu() for name in self.names}
        self.recall(index, target, passed)

    def recall(self, index: int, target: Any, passed: dict[str, Tensor]) -> None:
        """A sample that is known without its item."""
        self.targets[index] = target
        for name in self.names:
            self._passed[name][index] = passed[name]

    def own_inputs(self, index: int) -> dict[str, Tensor]:
        """Inputs of a sample that go straight to the head."""
        return {name: own[index] for name, own in self._passed.items()}

    def passed(self) -> dict[str, Tensor]:
        """(count, ...) by name, once all samples are known."""
        found = {name: own.tensor() for name, own in self._passed.items()}
        return {name: torch.stack(list(self._passed[name])) if own is None else own for name, own in found.items()}


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
        return FillPlan(len(samples.targets), len(rows), row_s)
    for first, keys in offered_keys(dataset):
        samples.keys[first : first + len(keys)] = keys
    folder, target_of = opened.folder, getattr(dataset, "target", None)
    found = rows.find(samples.keys)
    known = recalled = positions(len(found), lambda part: found[part] >= 0, folder)
    if target_of is None:
        recalled = ()
    elif samples.names:
        recalled = _recall_passed(samples, found, target_of, opened)
    else:
        for index in known:
            samples.recall(index, target_of(index), {})
    return FillPlan(len(samples.targets), len(rows), row_s, known, recalled)


def _recall_passed(
    samples: Samples, rows: NDArray[Any], target_of: Callable[[int], Any], opened: Opened
) -> Sequence[int]:  # fmt: skip
    """Inputs for the head of known samples, from the last snapshot that holds them; they follow from the content."""
    held = [name for name in reversed(opened.manifest.snapshots) if {KEYS, *samples.names} <= set(opened.held[name])]
    snapshots = [opened.held[name] for name in held]
    index = Rows(opened.shards, tuple(held), snapshots)
    found = index.find(samples.keys)
    recalled = positions(len(found), lambda part: (found[part] >= 0) & (rows[part] >= 0), opened.folder)
    for at in recalled:
        number = int(np.searchsorted(index.starts, found[at], side="right")) - 1
        row = int(found[at] - index.starts[number])
        samples.recall(at, target_of(at), {name: snapshots[number][name][row] for name in samples.names})
    return recalled
