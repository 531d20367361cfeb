"""Gathers whole batches of rows from mapped shards, and compares every row's key with the one that was asked for.

Legend: N samples of a dataset, B batch.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.shards import KEYS, Shards
from frostline.core import inputs as batches
from frostline.core.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.core.records import FrontierTensor


# From this row size on, copying row by row is faster than sorting by shard (measured with 4 shards on 2 cores).
_WIDE_BYTES = 16 * 1024

_KEYS_AT_ONCE = 2**20  # bounds the memory of a comparison to 32 MB


class Gatherer:
    """Rows of a snapshot's samples.

    Args:
        shards: Where the rows lie.
        names: Shards by number.
        shard: (N,) number of the shard of each sample.
        row: (N,) row within it.
        keys: (N, 16) sample keys of the snapshot.
        frontier: What a batch consists of, in order.
        shared: Shared tensors by name.
        passed: Model inputs that go straight to the head, by name: (N, ...) in the order of the snapshot.
    """

    def __init__(
        self, shards: Shards, names: tuple[str, ...], shard: Tensor, row: Tensor, keys: Tensor,
        frontier: tuple[FrontierTensor, ...], shared: dict[str, Tensor], passed: dict[str, Tensor],
    ) -> None:  # fmt: skip
        self.shards, self.names, self.shard, self.row, self.keys = shards, names, shard, row, keys
        self.frontier, self.shared, self.passed = frontier, shared, passed
        self._is_in_order = False  # rows lie in the order of the snapshot, as `check_all_keys` found

    def check_all_keys(self) -> None:
        """Compare the key of every row: before each pass, in the order of the snapshot, which is how memory is fast.

        Raises:
            CacheError: If a row belongs to another sample.
        """
        samples = torch.arange(len(self.keys))
        self._is_in_order = len(self.names) == 1 and torch.equal(self.row, samples)
        if self._is_in_order:
            self._compare(self._mapped(KEYS)[0][: len(self.keys)], self.keys, samples)
            return
        for part in samples.split(_KEYS_AT_ONCE):
            self.check_keys(part)

    def check_keys(self, samples: Tensor) -> None:
        """Compare the stored keys of these samples with the snapshot's.

        Raises:
            CacheError: If a row belongs to another sample.
        """
        mapped = [_as_words(keys) for keys in self._mapped(KEYS)]
        stored = _gather(mapped, *self._places(samples))
        self._compare(stored, _as_words(self.keys).index_select(0, samples), samples)

    def _compare(self, stored: Tensor, asked: Tensor, samples: Tensor) -> None:
        if not torch.equal(stored, asked):
            odd = samples[int((stored != asked).any(dim=1).nonzero()[0])]
            raise CacheError(
                what="A stored row belongs to another sample.",
                where=f"{self.names[int(self.shard[odd])]}, row {int(self.row[odd])}",
                received=f"another sample key than that of sample {int(odd)}",
                do="run FeatureCache.verify() to see how much is affected, and purge this recipe.",
            )

    def features(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The features of these samples, in fresh memory: (B, *shape) each; shared tensors whole."""
        return tuple(self._feature(tensor, samples) for tensor in self.frontier)

    def stored(self, samples: Tensor) -> dict[str, Tensor]:
        """The stored rows of these samples by name."""
        return {t.name: self._rows(t.name, samples) for t in self.frontier if not t.is_input and not t.shared}

    def _feature(self, tensor: FrontierTensor, samples: Tensor) -> Tensor:
        if tensor.is_input:
            passed = self.passed[tensor.name]
            return passed.clone() if tensor.shared else passed.index_select(0, samples)
        if tensor.shared:
            return self.shared[tensor.name].clone()
        return self._rows(tensor.name, samples)

    def batches(self, samples: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The features of these samples in batches; what does not depend on the batch is looked up once."""
        sources = [[] if t.is_input or t.shared else self._mapped(t.name) for t in self.frontier]
        row, shard = self._places(samples)
        if all(len(source) == 1 for source in sources):
            for part in row.split(size):
                yield tuple([source.index_select(0, part) for (source,) in sources])
            return
        shards = repeat(None) if shard is None else shard.split(size)
        for own, at, within in zip(samples.split(size), row.split(size), shards, strict=False):
            yield tuple(
                _gather(source, at, within) if source else self._feature(tensor, own)
                for tensor, source in zip(self.frontier, sources, strict=True)
            )

    def _places(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """Row of each sample, and its shard where there are several."""
        row = samples if self._is_in_order else self.row.index_select(0, samples)
        return row, self.shard.index_select(0, samples) if len(self.names) > 1 else None

    def _mapped(self, name: str) -> list[Tensor]:
        return [self.shards.open(shard)[name] for shard in self.names]

    def _rows(self, name: str, samples: Tensor) -> Tensor:
        return _gather(self._mapped(name), *self._places(samples))


def _gather(mapped: list[Tensor], row: Tensor, shard: Tensor | None) -> Tensor:
    """Rows in fresh memory. Of several shards: wide rows one by one, narrow ones shard by shard and then in order."""
    if shard is None:
        return mapped[0].index_select(0, row)
    if mapped[0][:1].nbytes >= _WIDE_BYTES:
        return torch.stack([mapped[at][index] for at, index in zip(shard.tolist(), row.tolist(), strict=True)])
    by_shard, order = shard.sort(stable=True)
    counts = torch.bincount(by_shard, minlength=len(mapped)).tolist()
    parts = row[order].split(counts)
    sorted_rows = torch.cat([source.index_select(0, part) for source, part in zip(mapped, parts, strict=True)])
    return sorted_rows.index_select(0, order.argsort())


def _as_words(keys: Tensor) -> Tensor:
    """Keys (N, 16) as (N, 2) words of 8 bytes: gathered many times faster than rows of bytes (measured)."""
    aligned = keys if keys.data_ptr() % 8 == 0 else keys.clone()
    return aligned.view(torch.int64)


def moved(values: Any, device: torch.device | None) -> Any:
    """The batch on the device of the head; where it is already there, as it is."""
    return values if device is None or device.type == "cpu" else batches.move(values, device)
