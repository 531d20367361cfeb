"""Batches from a cache: whole, and in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.reading.buffers import Buffers
from frostline.caching.reading.gather import Gatherer, moved
from frostline.caching.reading.mix import Mix, mixed
from frostline.caching.reading.windows import Sizes, Windows, ahead, sizes_of
from frostline.core import inputs as batches
from frostline.core.arguments import as_count, as_seed
from frostline.core.disk_array import FEW
from frostline.core.errors import DataError
from frostline.core.order import epoch_order, grouped_by_length, own_part, windowed_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from frostline.caching.reading.gather import Gatherer
    from frostline.caching.store.ragged import TargetSizes
    from frostline.core.given_rows import GivenRows
    from frostline.core.order import DrawnOrder

# Targets are fetched this many batches ahead: batch by batch it would cost as much as the rows.
_BATCHES_AHEAD = 64


class CachedLoader:
    """Yields `(features, target)` batches; every pass over it is the next epoch, also after one that was broken off.

    Attributes:
        epoch: The epoch that the next pass gives; set it to go to another.
        batch_size: Samples per batch.
        views: Of each sample; an epoch gives one of them, and no view comes again before all have come.
        part: (rank, number of processes) of the part of every batch that is read; (0, 1) reads all of it.
        drawn: Draws the order of epochs, in place of the seed; None where none does.
    """

    def __init__(
        self, gatherer: Gatherer, targets: Any, num_samples: int, batch_size: int, *, shuffle: bool, seed: int,
        drop_last: bool, device: torch.device | None, check_weights: Callable[[], None] | None = None,
        views: int = 1, mix: Mix | None = None, sizes: TargetSizes | None = None, lengths: Tensor | None = None,
        memory_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self.batch_size, self.views, self._mix = batch_size, views, mix
        self.part = (0, 1)
        self.drawn: DrawnOrder | None = None
        self._sizes, self._lengths = sizes, lengths
        self._gatherer, self._targets, self._num_samples = gatherer, targets, num_samples
        self._shuffle, self._seed, self._drop_last, self._device = shuffle, seed, drop_last, device
        self._check_weights = check_weights
        # Rows that are sorted by length may lie anywhere: they are mapped.
        self._read: Sizes | None = sizes_of(gatherer, memory_bytes, batch_size) if lengths is None else None
        self._windows = Windows(gatherer)
        self._resident: Resident | None = None
        self._may_be_resident = True
        self._buffers = Buffers()
        self.given: GivenRows | None = None  # where batches are noted
        self.is_free = False  # batches may be changed on their way
        self._epoch = self._start = 0  # of the next pass
        self._place = (0, 0)  # epoch and batch that come next, for `state_dict`

    @property
    def epoch(self) -> int:
        """The epoch that the next pass gives."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        epoch = as_count("loader", "epoch", epoch, least=0)
        self._epoch, self._start, self._place = epoch, 0, (epoch, 0)

    @property
    def num_samples(self) -> int:
        """Samples of one pass."""
        return self._num_samples if self.drawn is None else self.drawn.num_drawn

    def agree(self, exchanged: Callable[[Any], list[Any]]) -> None:
        """Read rows as all processes that train together can: the order of an epoch follows from how they are read.

        Args:
            exchanged: callable(own) -> what each process has given.
        """
        found = exchanged((self._read, self._device is not None and has_room(self._gatherer, self._device)))
        cuts = [cut for cut, _ in found if cut is not None]
        self._read = min(cuts, key=lambda cut: (cut.window, cut.block), default=None)
        self._may_be_resident = all(fits for _, fits in found)

    def __len__(self) -> int:
        if self._drop_last:
            return self.num_samples // self.batch_size
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[tuple[Tensor, ...], Any]]:
        epoch, start = self._epoch, self._start
        self._epoch, self._start, self._place = epoch + 1, 0, (epoch, start)
        return self._pass(epoch, start)

    def _pass(self, epoch: int, start: int) -> Iterator[tuple[tuple[Tensor, ...], Any]]:
        if self._check_weights is not None:
            self._check_weights()
        count, size, rows_of = len(self), self.batch_size, self._source(epoch % self.views)
        order = own_part(self._order(epoch), size, *self.part, folder=self._folder)
        size = size // self.part[1]
        self._gatherer.fetch_ahead(order[start * size :])
        order = moved(order, self._device) if self._resident else order
        place = None if self._resident else self._device
        at_once = _BATCHES_AHEAD if self._read is None else self._read.window // self.batch_size
        bounds = [start, *range(start // at_once * at_once + at_once, count, at_once), count] if start < count else []
        spans = [(first * size, last * size) for first, last in pairwise(bounds)]
        source = rows_of((order[begin:end].long() for begin, end in spans), size)
        for (first, last), (begin, end) in zip(pairwise(bounds), spans, strict=True):
            rows, chunk = next(source), order[begin:end].long()
            targets = batches.map_tensors(self._targets, lambda x, at=chunk: x.index_select(0, at))
            parts = iter(_parts(targets, len(chunk), size))
            if self._sizes is not None:
                parts = map(self._sizes.cut, parts, chunk.split(size))
            for number in range(first, last):
                self._place = (epoch, number + 1) if number + 1 < count else (epoch + 1, 0)
                if self.given is not None and self.is_free:
                    self.given.note_free()
                elif self.given is not None:
                    self.given.note(self._gatherer, chunk[(number - first) * size : (number - first + 1) * size])
                if self._mix is not None:
                    features, target = moved((next(rows), next(parts)), place)
                    yield self._mixed(features, target, epoch, number)
                    continue
                # No name holds the batch, nor does a zip: its memory is free for the next one.
                yield moved((next(rows), next(parts)), place)
            del rows  # and with it a window, before the next one is read

    def _order(self, epoch: int) -> Tensor:
        """The samples of an epoch in their order: over all of them, or within windows that fit in memory."""
        same: dict[str, Any] = {
            "seed": self._seed, "epoch": epoch, "views": self.views, "folder": self._folder,
        }  # fmt: skip
        if self.drawn is None and self._read is not None and self._shuffle:
            own = self._read
            return windowed_order(self._num_samples, block=own.block, window=own.window, **same)
        order = (
            epoch_order(self._num_samples, shuffle=self._shuffle, **same) if self.drawn is None
            else self.drawn.order(epoch) + epoch % self.views * self._num_samples
        )  # fmt: skip
        if self._lengths is None:
            return order
        return grouped_by_length(
            order, self._lengths, self.batch_size, shuffle=self._shuffle, seed=self._seed, epoch=epoch,
            folder=self._folder,
        )  # fmt: skip

    @property
    def _folder(self) -> Path | None:
        """Where an order lies; few samples have theirs in memory."""
        return self._gatherer.shards.folder if self._num_samples > FEW else None

    def _mixed(self, features: tuple[Tensor, ...], target: Any, epoch: int, number: int) -> tuple[Any, Any]:
        """The batch with its samples mixed; shared tensors stay."""
        at = next(at for at, tensor in enumerate(self._gatherer.frontier) if not tensor.shared)
        own, target = mixed(self._mix, features[at], target, self._seed, epoch, number) if self._mix else (None, None)
        return (*features[:at], own, *features[at + 1 :]), target

    def _source(self, view: int) -> Callable[[Iterable[Tensor], int], Iterator[Iterator[tuple[Tensor, ...]]]]:
        """Gives the batches of each chunk: from the device where they fit, from mapped shards, or read into memory.

        Keys are compared first; those of rows that are read, with the rows.
        """
        if self._resident is None:
            fits = self._may_be_resident and self._device is not None and has_room(self._gatherer, self._device)
            if fits or self._read is None:
                first, stop = (0, None) if fits else (view * self._num_samples, (view + 1) * self._num_samples)
                self._gatherer.check_all_keys(first, stop)
            if fits and self._device is not None:
                self._resident = Resident(self._gatherer, self._device)
                self._targets = moved(self._targets, self._device)
        if self._resident is not None:
            resident = self._resident
            return lambda chunks, size: (resident.batches(chunk, size) for chunk in chunks)
        if self._read is not None:
            return lambda chunks, size: ahead(chunks, self._windows.read, size)
        select = self._buffers.select
        return lambda chunks, size: (self._gatherer.batches(chunk, size, select) for chunk in chunks)

    def state_dict(self) -> dict[str, int]:
        """Where the next batch comes from, in the pass that moved last: four integers.

        A loader that shuffles within a budget of memory adds the sizes that its order follows from.
        """
        own = {"seed": self._seed, "epoch": self._place[0], "batch": self._place[1], "batch_size": self.batch_size}
        return own | self._cut()

    def _cut(self) -> dict[str, int]:
        """Samples of a block and of a window, where an epoch is shuffled so."""
        if self._read is None or not self._shuffle:
            return {}
        return {"block": self._read.block, "window": self._read.window}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on exactly there.

        Raises:
            DataError: If the state is of a loader with another batch size, or another order of the same epoch.
        """
        known = state if isinstance(state, Mapping) else {}  # pyright: ignore[reportUnnecessaryIsInstance]
        missing = [name for name in ("seed", "epoch", "batch", "batch_size") if name not in known]
        if missing:
            raise DataError(
                what="This is not the state of a loader.", where="loader.load_state_dict",
                received=f"{batches.describe(state)}, without {', '.join(missing)}", do="pass what state_dict() gave.",
            )  # fmt: skip
        call = "loader.load_state_dict"
        seed = as_seed(call, "seed", state["seed"])
        epoch, batch = (as_count(call, name, state[name], least=0) for name in ("epoch", "batch"))
        if state["batch_size"] != self.batch_size:
            raise DataError(
                what="The loader was saved with another batch size.",
                where="loader.load_state_dict",
                received=f"batch_size {state['batch_size']}; this loader has {self.batch_size}",
                do="make the loader with the same batch_size.",
            )
        cut = {name: state[name] for name in ("block", "window") if name in state}
        if batch and cut != self._cut():
            raise DataError(
                what="The loader was saved with another order, which follows from its budget of memory.",
                where="loader.load_state_dict", received=f"{cut or 'no windows'}; this loader has "
                f"{self._cut() or 'no windows'}", do="make the loader with the same memory_bytes, shuffle and device.",
            )  # fmt: skip
        self._seed, self._epoch, self._start = seed, epoch, batch
        self._place = (self._epoch, self._start)


def _parts(targets: Any, count: int, size: int) -> Iterable[Any]:
    if isinstance(targets, Tensor):
        return targets.split(size)
    starts = range(0, count, size)
    return (batches.map_tensors(targets, lambda x, at=start: x[at : at + size]) for start in starts)


_SHARE = 0.25  # of the memory that is free: the rest is for the model and its gradients
_AT_ONCE = 4096  # samples of one copy


def has_room(gatherer: Gatherer, device: torch.device) -> bool:
    """True if the device is a GPU, and all rows take a quarter of its free memory or less."""
    if device.type != "cuda" or any(tensor.is_varying for tensor in gatherer.frontier):
        return False
    of_sample = sum(tensor.bytes_per_sample for tensor in gatherer.frontier if not tensor.shared)
    return len(gatherer.keys) * of_sample <= _SHARE * torch.cuda.mem_get_info(device)[0]


class Resident:
    """The features of a snapshot on a device, in the order of the samples.

    Args:
        gatherer: Gives the rows, once.
        device: Where they are kept.
    """

    def __init__(self, gatherer: Gatherer, device: torch.device) -> None:
        self._device = device
        self._is_shared = [tensor.shared for tensor in gatherer.frontier]
        samples = torch.arange(len(gatherer.keys), device="cpu")
        first = gatherer.features(samples[:1])
        self._features = [
            own.to(device) if is_shared else own.new_empty((len(samples), *own.shape[1:]), device=device)
            for own, is_shared in zip(first, self._is_shared, strict=True)
        ]
        for start, part in zip(
            range(0, len(samples), _AT_ONCE), gatherer.batches(samples, _AT_ONCE), strict=True
        ):  # fmt: skip
            for whole_N, own_B, is_shared in zip(self._features, part, self._is_shared, strict=True):
                if not is_shared:
                    whole_N[start : start + len(own_B)] = own_B.to(device)

    def batches(self, samples: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The features of these samples in batches, in fresh memory."""
        for part in samples.to(self._device).split(size):
            yield tuple(
                own.clone() if is_shared else own.index_select(0, part)
                for own, is_shared in zip(self._features, self._is_shared, strict=True)
            )
