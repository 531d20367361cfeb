"""Gathers whole batches of rows from mapped shards, and compares every row's key with the requested one.

Legend: N samples of a dataset, B batch.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.reading.buffers import is_worth_lending
from frostline.caching.store.mapped_shard import KEYS, Shard, fetch_in_order
from frostline.caching.store.ragged import RaggedSpan
from frostline.caching.store.span import Span, fresh
from frostline.core import inputs as batches
from frostline.core.disk_array import FEW, disk_tensor
from frostline.core.errors import CacheError, DataError
from frostline.core.padding import Padding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from frostline.caching.store.rows import Rows
    from frostline.caching.store.span import Places, Select
    from frostline.caching.store.storage_type import Storage
    from frostline.core.records import FrontierTensor


_KEYS_AT_ONCE = 2**14  # half a megabyte: the processor's own cache holds what is compared


class Gatherer:
    """Rows of a snapshot's samples.

    Args:
        rows: An index that holds the keys of all samples.
        keys: (N, 16) sample keys of the snapshot.
        frontier: What a batch consists of, in order.
        shared: Shared tensors by name.
        passed: Model inputs that go straight to the head, by name: (N, ...) in the order of the snapshot.
        padding: How rows of differing size become a batch; None where all have one size.
        storage: How rows lie in shards; None: as they are.
    """

    def __init__(
        self, rows: Rows, keys: NDArray[np.uint8], frontier: tuple[FrontierTensor, ...], shared: dict[str, Tensor],
        passed: dict[str, Tensor], padding: Padding | None = None, storage: Storage | None = None,
    ) -> None:  # fmt: skip
        self.padding, self.storage = padding, storage
        self.stored_frontier = frontier if storage is None else storage.frontier  # as it lies in shards
        used, self.shard, self.row = rows.locate(rows.find(keys))
        self.names = tuple(rows.names[at] for at in used)
        self.shards, self.keys = rows.shards, torch.from_numpy(keys)
        self.frontier, self.shared, self.passed = frontier, shared, passed
        self._spans: dict[str, Span] = {}
        self._starts_N: dict[str, Tensor] = {}
        self._ragged: dict[str, RaggedSpan] = {}
        # Held as long as the dataset lives: the collector leaves what is mapped.
        self._mapped: list[Shard] = [rows.mapped[at] for at in used]
        self._are_checked = False

    def __getstate__(self) -> dict[str, Any]:
        anew = {
            "_spans": {},
            "_starts_N": {},
            "_ragged": {},
            "_mapped": [],
            "_are_checked": False,
        }  # mapped anew in every process
        for shard in [] if self.shards.sharing.remote is None else self._mapped:
            shard.check()  # other processes read what is on the disk
        return {**self.__dict__, **anew}

    def fetch_ahead(self, samples: Tensor) -> None:
        """Fetch the shards of a store that are not here yet, in the order of these samples, beside what goes on.

        What fails is told when its rows are used.
        """
        away = [not shard.is_here for shard in self._mapped]
        if not any(away):
            return
        seen = dict[int, None]()
        for part in samples.split(_KEYS_AT_ONCE):
            seen.update(dict.fromkeys(self.shard.index_select(0, part).tolist()))
        ordered = [at for at in seen if away[at]]
        fetch_in_order([self._mapped[at] for at in ordered])

    def part(self, samples: Tensor) -> Gatherer:
        """The rows of these samples only, in this order, over the same mapped shards."""
        chosen = copy.copy(self)
        chosen.shard, chosen.row, chosen.keys = (self.chosen(own, samples) for own in (self.shard, self.row, self.keys))
        is_shared = {tensor.name: tensor.shared for tensor in self.frontier}
        chosen.passed = {name: x if is_shared[name] else self.chosen(x, samples) for name, x in self.passed.items()}
        chosen._spans, chosen._starts_N, chosen._ragged = {}, {}, {}
        return chosen

    def chosen(self, values: Tensor, samples: Tensor) -> Tensor:
        """Values of these samples, on the disk where they are large."""
        found = disk_tensor((len(samples), *values.shape[1:]), values.dtype, self.shards.folder)
        return torch.index_select(values, 0, samples, out=found)

    def places(self, samples: Tensor) -> Places:
        """(shard, row there) of these samples."""
        return self.shard.index_select(0, samples).long(), self.row.index_select(0, samples).long()

    def check_all_keys(self, first: int = 0, stop: int | None = None) -> None:
        """Compare the key of every row: before each pass, in the order of the snapshot, which is how memory is fast.

        Args:
            first: Of the rows to compare.
            stop: Behind the last of them; None compares all that follow.

        Raises:
            CacheError: If a row belongs to another sample.
        """
        span, stop = self._span(KEYS), len(self.keys) if stop is None else stop
        for start in range(first, stop, _KEYS_AT_ONCE):
            part = slice(start, min(start + _KEYS_AT_ONCE, stop))
            stored = span.gather(self._starts(KEYS, part))
            self._compare(stored, self.keys[part], lambda at, start=start: start + at)

    def check_keys(self, samples: Tensor) -> None:
        """Compare the stored keys of these samples with the snapshot's.

        Raises:
            CacheError: If a row belongs to another sample.
        """
        stored = self._span(KEYS).gather(self._starts(KEYS, samples))
        self._compare(stored, self.keys.index_select(0, samples), lambda at: int(samples[at]))

    def _compare(self, stored: Tensor, asked: Tensor, sample_of: Callable[[int], int]) -> None:
        if not torch.equal(stored.view(torch.int64), asked.view(torch.int64)):
            odd = sample_of(int((stored != asked).any(dim=1).nonzero()[0]))
            raise self.misplaced(odd)

    def misplaced(self, sample: int) -> CacheError:
        """The error of a sample whose row belongs to another one."""
        return CacheError(
            what="A stored row belongs to another sample.",
            where=f"{self.names[int(self.shard[sample])]}, row {int(self.row[sample])}",
            received=f"another sample key than that of sample {sample}",
            do="run FeatureCache.verify() to see how much is affected, and purge this recipe.",
        )

    def features(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The features of these samples, in fresh memory: (B, *shape) each; shared tensors whole."""
        return next(self.batches(samples, max(1, len(samples))))

    def stored(self, samples: Tensor) -> dict[str, Tensor]:
        """The stored rows of these samples by name."""
        self._check_shards(samples)
        stored = [t for t in self.frontier if not t.is_input and not t.shared]
        spans = {t.name: self._span(t.name) for t in stored if not t.is_varying}
        found = {name: span.gather(self._starts(name, samples)) for name, span in spans.items()}
        found |= {t.name: self.ragged(t.name).gather(samples) for t in stored if t.is_varying}
        return {name: self._loaded(name, samples)(own) for name, own in found.items()}

    def _loaded(self, name: str, samples: Tensor) -> Callable[[Tensor], Tensor]:
        """What makes of stored rows of these samples what the model computed."""
        storage = self.storage
        if storage is None or name not in storage.rounded:
            return lambda rows: rows
        scales = storage.scale_name(name)
        if scales is None:
            return partial(storage.loaded, name)
        span = self._span(scales)
        return lambda rows: storage.loaded(name, rows, span.gather(self._starts(scales, samples)))

    def batches(self, samples: Tensor, size: int, select: Select = fresh) -> Iterator[tuple[Tensor, ...]]:
        """The features of these samples in batches; what does not depend on the batch is looked up once.

        Args:
            samples: (B,) of the snapshot.
            size: Samples of a batch.
            select: Gives the rows of large batches; a loader's come from its buffers.
        """
        found = [self._getter(tensor, samples, size, select) for tensor in self.frontier]
        getters = [get for get, _ in found]
        for own in zip(*(places.split(size) for _, places in found), strict=True):
            yield tuple([get(at) for get, at in zip(getters, own, strict=True)])

    def rows_of(self, tensor: FrontierTensor, samples: Tensor) -> Tensor:
        """One tensor of these samples, as `features` gives it."""
        get, at = self._getter(tensor, samples, len(samples), fresh)
        return get(at)

    def _getter(
        self, tensor: FrontierTensor, samples: Tensor, size: int, select: Select
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """(a function from places to a batch of this tensor, the places of these samples)."""
        if tensor.shared:
            whole = (self.passed if tensor.is_input else self.shared)[tensor.name]
            return (lambda _: whole.clone()), samples
        is_lent = is_worth_lending(min(size, len(samples)) * tensor.bytes_per_sample)
        select = select if is_lent else fresh
        self._check_shards(samples)
        if tensor.is_input:
            return partial(select, tensor.name, self.passed[tensor.name]), samples
        if self.storage is not None and tensor.name in self.storage.rounded:
            return (lambda own: self._rounded(tensor, own)), samples
        if tensor.is_varying:
            return self.ragged(tensor.name).gather, samples
        span = self._span(tensor.name)
        return partial(span.gather, select=select), self._starts(tensor.name, samples)

    def _rounded(self, tensor: FrontierTensor, samples: Tensor) -> Tensor:
        """A batch of a tensor that lies in shards in another type."""
        if tensor.is_varying:
            rows = self.ragged(tensor.name).gather(samples)
        else:
            rows = self._span(tensor.name).gather(self._starts(tensor.name, samples))
        return self._loaded(tensor.name, samples)(rows)

    def sizes_text(self) -> str:
        """The sizes of the stored rows, for people; empty where all have one."""
        varying = [tensor.name for tensor in self.frontier if tensor.is_varying]
        if not varying:
            return ""
        for name in varying:
            _check_padding_known(name, self.ragged(name).shapes_N, self.padding or Padding({}))
        shapes_N = self.ragged(varying[-1]).shapes_N
        least, most = (tuple(own.tolist()) for own in (shapes_N.amin(0), shapes_N.amax(0)))
        share = float(shapes_N.prod(1).double().mean()) / max(1, int(shapes_N.amax(0).prod()))
        padded = f"padded to the largest they would take {1 / share:.1f} times as much"
        return f"rows of {varying[-1]} are {least} to {most} large; {padded}"

    def ragged(self, name: str) -> RaggedSpan:
        """The rows of a tensor whose size varies."""
        if name not in self._ragged:
            padding = self.padding or Padding({})
            value, is_left = padding.value_of(name), padding.is_left
            mapped = [shard.unchecked for shard in self._shards()]
            self._ragged[name] = RaggedSpan(
                name, mapped, self.shard, self.row, value, is_left=is_left, folder=self.shards.folder
            )
        return self._ragged[name]

    def _span(self, name: str) -> Span:
        if name not in self._spans:
            mapped = [shard.unchecked[name] for shard in self._shards()]
            self._spans[name] = Span(name, mapped)
        return self._spans[name]

    def _starts(self, name: str, samples: Tensor | slice) -> Tensor:
        """(B,) where the rows of these samples begin; kept for all of them where they are few."""
        span = self._span(name)
        if name not in self._starts_N and len(self.shard) <= FEW:
            self._starts_N[name] = span.starts(self.shard.long(), self.row.long())
        if name in self._starts_N:
            kept_N = self._starts_N[name]
            return kept_N[samples] if isinstance(samples, slice) else kept_N.index_select(0, samples)
        if isinstance(samples, slice):
            return span.starts(self.shard[samples].long(), self.row[samples].long())
        return span.starts(*self.places(samples))

    def _check_shards(self, samples: Tensor) -> None:
        """Compare the shards of these samples with their digests, where that was not done before.

        Raises:
            Damaged: If one is damaged.
        """
        if not self._are_checked:
            shards = self._shards()
            for at in self.shard.index_select(0, samples).long().unique().tolist():
                shards[at].check()
            self._are_checked = all(shard.is_checked for shard in shards)

    def _shards(self) -> list[Shard]:
        if not self._mapped:
            self._mapped = [self.shards.open(shard) for shard in self.names]
        return self._mapped


def moved(values: Any, device: torch.device | None) -> Any:
    """The batch on the device of the head; where it is already there, as it is."""
    return values if device is None or device.type == "cpu" else batches.move(values, device)


def _check_padding_known(name: str, shapes_N: Tensor, padding: Padding) -> None:
    """Of a dataset some samples are looked at: of what has one size in them nobody knows how it is padded."""
    own = name.removeprefix("input.")
    is_known = own in padding.inputs if name != own else padding.is_varying
    if not is_known and not bool((shapes_N == shapes_N[:1]).all()):
        raise DataError(
            what="Few samples differ in size, and none of those that were collated together: their padding is unknown.",
            where=f"fill(collate_fn=...), {own}", received=f"rows of {len(shapes_N.unique(dim=0))} sizes",
            do="pad these samples to one size in the dataset, or train with frostline.fit(..., cache=False).",
        )  # fmt: skip
