"""What an earlier fill knows of samples that need not be read: inputs that go to the head.

Legend: N samples of the dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.caching.shards import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor


class Recall:
    """The snapshots of earlier fills, by sample key; the last one that holds a key counts.

    Features and inputs follow from a sample's content, its target does not: it comes from the dataset's `target(i)`, or
    with the item.

    Args:
        snapshots: Tensors of earlier snapshots, oldest first.
        names: Inputs that go straight to the head.
    """

    def __init__(self, snapshots: Sequence[dict[str, Tensor]], names: Sequence[str]) -> None:
        self.snapshots = [snapshot for snapshot in snapshots if {KEYS, *names} <= set(snapshot)]
        self.names = names
        self._places: dict[bytes, tuple[int, int]] = {}
        for number, snapshot in enumerate(self.snapshots):
            keys = snapshot[KEYS].numpy()
            self._places.update({key.tobytes(): (number, at) for at, key in enumerate(keys)})

    def of(self, keys: NDArray[np.uint8], known: NDArray[np.int64]) -> dict[int, dict[str, Tensor]]:
        """Inputs for the head by index, of those samples that need not be read.

        Args:
            keys: (N, 16).
            known: Indices of samples whose features are stored.
        """
        places = {index: self._places.get(keys[index].tobytes()) for index in known.tolist()}
        return {index: self._passed(*place) for index, place in places.items() if place is not None}

    def _passed(self, number: int, at: int) -> dict[str, Tensor]:
        return {name: self.snapshots[number][name][at] for name in self.names}
