"""What an earlier fill knows of samples that need not be read: their targets, and inputs that go to the head.

Legend: N samples of the dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from frostline.caching.shards import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

TARGET = "target"


class Recall:
    """The snapshots of earlier fills, by sample key; the last one that holds a key counts.

    Features follow from a sample's content, its target does not: it is taken from the dataset's `target(i)`, or from
    a snapshot if the dataset holds, in one of its attributes, targets that agree. Else the item is read.

    Args:
        dataset: The dataset that is filled from.
        snapshots: Tensors of earlier snapshots, oldest first.
        names: Inputs that go straight to the head.
    """

    def __init__(self, dataset: Any, snapshots: Sequence[dict[str, Tensor]], names: Sequence[str]) -> None:
        self.dataset, self.snapshots, self.names = dataset, snapshots, names
        self.offers_target = hasattr(dataset, "target")
        self._places: dict[bytes, tuple[int, int]] = {}
        if names or not self.offers_target:
            for number, snapshot in enumerate(snapshots):
                self._note(number, snapshot)

    def of(self, keys: NDArray[np.uint8], known: NDArray[np.int64]) -> dict[int, tuple[Any, dict[str, Tensor]]]:
        """(target, inputs for the head) by index, of those samples that need not be read.

        Args:
            keys: (N, 16).
            known: Indices of samples whose features are stored.
        """
        if self.offers_target and not self.names:
            return {index: (self.dataset.target(index), {}) for index in known.tolist()}
        places = {index: self._places.get(keys[index].tobytes()) for index in known.tolist()}
        found = {index: place for index, place in places.items() if place is not None}
        if self.offers_target:
            return {index: (self.dataset.target(index), self._passed(place)) for index, place in found.items()}
        recalled = {index: self.snapshots[number][TARGET][at] for index, (number, at) in found.items()}
        if not recalled or not _holds(self.dataset, recalled):
            return {}
        return {index: (recalled[index], self._passed(place)) for index, place in found.items()}

    def _note(self, number: int, snapshot: dict[str, Tensor]) -> None:
        """Remember where each key lies; a key that stands twice could have two targets and is left out."""
        if not {TARGET, *self.names} <= set(snapshot):
            return
        keys, places, counts = np.unique(snapshot[KEYS].numpy(), axis=0, return_index=True, return_counts=True)
        for key, at, count in zip(keys, places.tolist(), counts.tolist(), strict=True):
            if count == 1:
                self._places[key.tobytes()] = (number, at)

    def _passed(self, place: tuple[int, int]) -> dict[str, Tensor]:
        number, at = place
        return {name: self.snapshots[number][name][at] for name in self.names}


def _holds(dataset: Any, recalled: dict[int, Tensor]) -> bool:
    """True if an attribute of the dataset, one entry per sample, has these targets at these places."""
    indices, wanted = torch.tensor(list(recalled)), torch.stack(list(recalled.values()))
    columns = _columns(list(getattr(dataset, "__dict__", {}).values()), len(dataset))
    return any(_agrees(column, indices, wanted) for column in columns)


def _columns(values: Sequence[Any], count: int) -> Iterator[Any]:
    """Sequences of this length among the values, in tuples of them, and as the last entry of pairs."""
    for value in values:
        if isinstance(value, (list, tuple, np.ndarray, Tensor)) and len(value) == count:
            pairs = isinstance(value, (list, tuple)) and isinstance(value[0], tuple)
            yield [entry[-1] for entry in value] if pairs else value
        elif isinstance(value, (list, tuple)):
            yield from _columns(cast("Sequence[Any]", value), count)


def _agrees(column: Any, indices: Tensor, wanted: Tensor) -> bool:
    if np.ndim(column[0]) != wanted.dim() - 1:
        return False
    try:
        held = torch.as_tensor(column).cpu()[indices]
    except (TypeError, ValueError, RuntimeError):
        return False
    return held.shape == wanted.shape and torch.equal(held.double(), wanted.double())
