"""Seeded views of a dataset: what a random augmentation makes of a sample, the same whenever it is read.

A view follows from (dataset, index, view) alone: around each read, every generator that the dataset can draw from is
seeded from the sample and the number of the view, and put back afterwards.

Legend: N samples of the dataset, K views of each.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Any

from frostline.caching.samples.dataset_state import HeldGenerators
from frostline.core import inputs as batches
from frostline.core.arguments import as_count
from frostline.core.errors import DataError
from frostline.core.generators import kept_state, seed_generator
from frostline.core.restore import drawn_generator, generator_states, kept_generators, seed_generators
from frostline.core.stages import Stages, stages_of

_SEEDS = 2**63  # generators of torch take no larger ones
_MOST = 1_000_000  # views; chosen by us


class Views:
    """K views of N samples as a map-style dataset of K * N items: position view * N + index.

    Seeded are the global generators of python, numpy and torch, and those that the dataset holds (attributes,
    transforms, globals that its code names), as albumentations does. The seeds follow from the sample's own key where
    the dataset offers `sample_key`, else from its index; more views leave the others as they are.

    Args:
        dataset: A map-style dataset of `(inputs, target)`.
        count: K.

    Attributes:
        dataset: The dataset.
        count: K.
    """

    def __init__(self, dataset: Any, count: int) -> None:
        batches.check_map_style(dataset)
        self.dataset, self.count, self._num_samples = dataset, count, len(dataset)
        self._held: HeldGenerators | None = None
        self._process = 0  # where the generators were found
        stages = stages_of(dataset)
        self._items = dataset if stages is None else _Staged(stages, self._generators)
        if hasattr(dataset, "sample_key"):
            self.sample_key = self._sample_key
            self.fingerprint = self._fingerprint()
        if hasattr(dataset, "target"):
            self.target = self._target

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None, "_process": 0}  # another process has generators of its own

    def __len__(self) -> int:
        return self.count * self._num_samples

    def __getitem__(self, position: int) -> Any:
        view, index = self.place(position)
        seed = self._seed(index, view)
        with kept_generators(), ExitStack() as stack:
            for number, generator in enumerate(self._generators().generators):
                stack.enter_context(kept_state(generator))
                seed_generator(generator, (seed + 1 + number) % _SEEDS)
            seed_generators(seed)
            return batches.read(self._items, index)

    def place(self, position: int) -> tuple[int, int]:
        """(view, index of the sample) of a position."""
        return divmod(position, self._num_samples)

    def groups(self, positions: Iterable[int]) -> Iterator[list[int]]:
        """The positions in groups, in their order: those in a row that share a sample's source are one group."""
        if self._items is self.dataset:
            return ([position] for position in positions)
        return (list(group) for _, group in groupby(positions, lambda position: self.place(position)[1]))

    def in_reading_order(self, positions: Sequence[int]) -> Sequence[int]:
        """The positions in the order in which they are read: sample by sample where the views share a source."""
        is_shared = self._items is not self.dataset
        return sorted(positions, key=lambda at: self.place(at)[::-1]) if is_shared else positions

    @property
    def indices(self) -> list[int]:
        """The sample of each position, as a part of a dataset has it: labels are found through it."""
        return [*range(self._num_samples)] * self.count

    @property
    def entropy(self) -> tuple[str, ...]:
        """Sources of chance that its code names and that have no seed."""
        return self._generators().entropy

    def _seed(self, index: int, view: int) -> int:
        key = self.dataset.sample_key(index) if hasattr(self.dataset, "sample_key") else index.to_bytes(8, "little")
        digest = hashlib.sha256(b"view/1" + view.to_bytes(8, "little") + _as_bytes(key))
        return int.from_bytes(digest.digest()[:8], "little") % _SEEDS

    def _generators(self) -> HeldGenerators:
        """Those that the dataset holds in this process; a first read, which may make some, comes before."""
        if self._held is None or self._process != os.getpid():
            with kept_generators(), ExitStack() as stack:
                for generator in HeldGenerators(self.dataset).generators:
                    stack.enter_context(kept_state(generator))
                batches.read(self.dataset, 0)
            self._held, self._process = HeldGenerators(self.dataset), os.getpid()
        return self._held

    def _sample_key(self, position: int) -> Any:
        view, index = self.place(position)
        key = self.dataset.sample_key(index)
        return key if not isinstance(key, (bytes, str)) else _as_bytes(key) + view.to_bytes(8, "little")

    def _fingerprint(self) -> Any:
        """That of the dataset, and the kinds of generators that are seeded: with others, a view is another one."""
        given = getattr(self.dataset, "fingerprint", None)
        kinds = [type(getattr(own, "bit_generator", own)).__name__ for own in self._generators().generators]
        return f"{given} views/1 {' '.join(kinds)}" if isinstance(given, str) else given

    def _target(self, position: int) -> Any:
        return self.dataset.target(self.place(position)[1])


class _Staged:
    """The items of a dataset in two stages; the first is done once for reads of one sample in a row.

    A source that draws random numbers is made anew for every view: it belongs to the view.
    """

    def __init__(self, stages: Stages, held: Callable[[], HeldGenerators]) -> None:
        self._stages, self._held = stages, held
        self._last: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def __getitem__(self, index: int) -> Any:
        source, from_source = self._stages
        if self._last is not None and self._last[0] == index:
            return from_source(copy.deepcopy(self._last[1]), index)
        held, before = self._held(), generator_states()
        held.note()
        found = source(index)
        self._last = None if drawn_generator(before) or held.drawn() else (index, copy.deepcopy(found))
        return from_source(found, index)


def viewed(dataset: Any, call: str, views: int | None) -> Any:
    """The dataset, or so many views of it.

    Args:
        dataset: A map-style dataset.
        call: The function that was called, for errors.
        views: Of each sample; None for a deterministic dataset.

    Raises:
        DataError: If there are fewer than one, or the dataset is not map-style.
    """
    batches.check_map_style(dataset)
    if views is None:
        return dataset
    count = as_count(call, "views", views)
    if count > _MOST:
        raise DataError(
            what="No run shows so many views: an epoch shows one of them.", where=f"{call}(views=...)",
            received=f"{count:,}", do=f"pass {_MOST:,} views or fewer, such as views=8.",
        )  # fmt: skip
    return Views(dataset, count)


def _as_bytes(key: Any) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()
