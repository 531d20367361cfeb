"""Reads the items of a dataset, and notices when they are random, or change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from frostline.caching.keys import item_key
from frostline.caching.samples.dataset_state import DatasetState, HeldGenerators
from frostline.caching.samples.views import Views
from frostline.core import inputs as batches
from frostline.core.errors import DataError, FrostlineError
from frostline.core.item_form import PAIRS, ItemForm
from frostline.core.restore import drawn_generator, generator_states, set_generator_states
from frostline.core.timing import Stopwatch

Item = tuple[Any, Any]
_COMPARED = 8  # views of a sample


class Reader:
    """The items of a map-style dataset as (inputs, target), read under watch.

    Args:
        dataset: Anything with `len()` and `[i]`.
        form: Which parts of an item are inputs.
        num_workers: Worker processes; they watch too.
    """

    def __init__(self, dataset: Any, form: ItemForm, num_workers: int) -> None:
        batches.check_map_style(dataset)
        self.watched = Watched(dataset, form)
        self.num_workers = num_workers

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        """The items at these positions, in order; worker processes are ahead of what is taken."""
        if self.num_workers == 0:
            for index in indices:
                yield self.watched[index]
            return
        views = self.watched.dataset
        groups = views.groups(indices) if isinstance(views, Views) else ([index] for index in indices)
        loader = DataLoader(
            self.watched, sampler=groups, batch_size=None, num_workers=self.num_workers, collate_fn=_as_it_is
        )
        for read in loader:
            for item in read:
                if isinstance(item, FrostlineError):
                    raise item
                yield item

    def check_steady(self) -> bytes:
        """Read the first, middle and last item twice.

        Returns:
            A digest of these items.

        Raises:
            DataError: If an item differs from itself, or one more read of it moves values that the dataset reads.
        """
        count, digest = len(self.watched), hashlib.sha256(len(self.watched).to_bytes(8, "little"))
        for index in sorted({0, count // 2, count - 1}):
            first = content_of(self.watched[index], index)
            state = DatasetState(self.watched.dataset, has_identity=False)
            second = content_of(self.watched[index], index)
            if first != second:
                raise self.watched.random(index, f"{_part(first, second)} at the second read of the same index")
            if moved := state.moved(only_own=True):
                raise _remembers(moved, index)
            digest.update(b"".join(first))
        return digest.digest()

    def has_differing_views(self) -> bool:
        """False if views are asked for, and those of the first, middle and last sample are all the same."""
        views = self.watched.dataset
        if not isinstance(views, Views) or views.count == 1:
            return True
        count = len(views) // views.count
        samples, others = {0, count // 2, count - 1}, range(1, min(views.count, _COMPARED))
        return any(
            content_of(self.watched[index + view * count], index) != content_of(self.watched[index], index)
            for index in sorted(samples)
            for view in others
        )

    def check_again(self, seen: Mapping[int, tuple[bytes, bytes]]) -> None:
        """Read items once more, after all were read.

        Args:
            seen: What `content_of` gave of them before.

        Raises:
            DataError: If one has changed.
        """
        for index, before in seen.items():
            now = content_of(self.watched[index], index)
            if now != before:
                raise self.watched.random(index, f"{_part(before, now)} when it was read again after the other items")


def check_steady(dataset: Any, form: ItemForm = PAIRS) -> None:
    """Read the first, middle and last item twice, under watch.

    Raises:
        DataError: If the dataset is random, or changes with every read.
    """
    Reader(dataset, form, 0).check_steady()


def content_of(item: Item, index: int) -> tuple[bytes, bytes]:
    """The content of an item, inputs and target, for comparisons; a target without bytes counts as empty."""
    inputs, target = item
    try:
        return item_key(inputs, index), item_key(target, index)
    except DataError:
        return item_key(inputs, index), b""


class Watched(Dataset[Any]):
    """A dataset whose items must not draw from generators: the global ones, and those that it holds."""

    def __init__(self, dataset: Any, form: ItemForm) -> None:
        self.dataset, self.form = dataset, form
        self.watch = Stopwatch()  # worker processes have others
        self._held: HeldGenerators | None = None
        self._is_read = self._is_settled = False

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_held": None,
            "_is_read": False,
            "_is_settled": False,
        }  # a worker process has generators of its own

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | list[int]) -> Any:
        """The item there; in a worker process a list of them, or of what they raised."""
        if isinstance(index, int):
            return self._read(index)
        return [self._read_or_error(own) for own in index]

    def _read_or_error(self, index: int) -> Item | FrostlineError:
        try:
            return self._read(index)
        except FrostlineError as error:
            return error  # a worker would wrap it into another text

    def _read(self, index: int) -> Item:
        item = self._read_once(index)
        if self._entropy() and content_of(item, index) != content_of(self._read_once(index), index):
            raise self.random(index, "two different results for the same index")
        return item

    def random(self, position: int, received: str) -> DataError:
        """The error for an item that differs when it is read again."""
        where, sources = f"dataset[{position}]", " and ".join(self._entropy()[:3])
        if isinstance(self.dataset, Views):
            view, index = self.dataset.place(position)
            return _unseedable(f"dataset[{index}], view {view}", received, sources)
        return _random(where, received, sources)

    def _entropy(self) -> tuple[str, ...]:
        """Sources of chance without a state that the code of the dataset names."""
        return self.dataset.entropy if isinstance(self.dataset, Views) else self._generators().entropy

    def _read_once(self, index: int) -> Item:
        if isinstance(self.dataset, Views):  # it puts every generator back itself
            with self.watch.lap(1):
                item = self.dataset[index]
            inputs, target = self.form.unpack(item, self.dataset.place(index)[1])
            return inputs, batches.move(target, "cpu")
        held, before = self._generators(), generator_states()
        held.note()
        with self.watch.lap(1):
            item = batches.read(self.dataset, index)
        drawn = drawn_generator(before)
        if drawn:
            set_generator_states(before)
            raise self.random(index, f"the {drawn} generator advanced while the item was read")
        if own := held.drawn():
            raise self.random(index, f"the generator {own} advanced while the item was read")
        inputs, target = self.form.unpack(item, index)
        self._is_read = True
        return inputs, batches.move(target, "cpu")

    def _generators(self) -> HeldGenerators:
        """Those that the dataset holds; looked for again after the first read, which may have made some."""
        if self._held is None or (self._is_read and not self._is_settled):
            self._held, self._is_settled = HeldGenerators(self.dataset), self._is_read
        return self._held


def _part(one: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> str:
    return "other inputs" if one[0] != other[0] else "another target"


IS_RANDOM = "The dataset is random"  # how the error begins that callers add to


def _random(where: str, received: str, sources: str) -> DataError:
    return DataError(
        what="The dataset is random: the same index does not give the same item.",
        where=where,
        received=received + (f"; its code draws from {sources}" if sources else ""),
        do="keep several seeded views of each sample (views=4 of fill and fit, --views 4; views=1 is enough where a "
        "transform draws and gives the same item all the same, as those of albumentations do); or use a deterministic "
        "transform (Resize and CenterCrop instead of RandomResizedCrop), or train with frostline.fit(..., "
        "cache=False).",
    )


def _unseedable(where: str, received: str, sources: str) -> DataError:
    return DataError(
        what="A view of a sample is not the same when it is read again: its chance comes from a source without a seed.",
        where=where,
        received=received + (f"; the code of the dataset draws from {sources}" if sources else ""),
        do="draw from random, numpy.random, torch, or a generator that the dataset holds"
        + (f", instead of {sources}" if sources else "; such as os.urandom, the clock or a library of its own are not "
           "seeded") + "; or train with frostline.fit(..., cache=False) and without views.",
    )  # fmt: skip


def _remembers(names: Sequence[str], index: int) -> DataError:
    shown = ", ".join(map(repr, names[:3]))
    return DataError(
        what=f"The dataset reads values that change with every read: {shown}.",
        where=f"dataset[{index}]",
        received="another value after the same item was read once more",
        do="make items follow from their index alone, or train with frostline.fit(..., cache=False).",
    )


def _as_it_is(item: Any) -> Any:
    return item
