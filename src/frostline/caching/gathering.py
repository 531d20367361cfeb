"""Gathers whole batches of rows from mapped shards, and compares every row's key with the one that was asked for.

Legend: N samples of a dataset, B batch, M places where a row may begin, W words of a row.
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.shards import KEYS, Tensors
from frostline.core import inputs as batches
from frostline.core.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from frostline.caching.rows import Rows
    from frostline.core.records import FrontierTensor


_KEYS_AT_ONCE = 2**20  # bounds the memory of a comparison to 32 MB
_WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


class Gatherer:
    """Rows of a snapshot's samples.

    Args:
        rows: An index that holds the keys of all samples.
        keys: (N, 16) sample keys of the snapshot.
        frontier: What a batch consists of, in order.
        shared: Shared tensors by name.
        passed: Model inputs that go straight to the head, by name: (N, ...) in the order of the snapshot.
    """

    def __init__(
        self, rows: Rows, keys: NDArray[np.uint8], frontier: tuple[FrontierTensor, ...], shared: dict[str, Tensor],
        passed: dict[str, Tensor],
    ) -> None:  # fmt: skip
        shard, self.row = rows.locate(rows.find(keys))
        used, self.shard = shard.unique(return_inverse=True)
        self.names = tuple(rows.names[at] for at in used.tolist())
        self.shards, self.keys = rows.shards, torch.from_numpy(keys)
        self.frontier, self.shared, self.passed = frontier, shared, passed
        self._spans: dict[str, Span] = {}
        # Held as long as the dataset lives: the collector leaves what is mapped.
        self._mapped: list[Tensors] = [rows.mapped[at] for at in used.tolist()]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spans": {}, "_mapped": []}  # memory is mapped anew in every process

    def check_all_keys(self) -> None:
        """Compare the key of every row: before each pass, in the order of the snapshot, which is how memory is fast.

        Raises:
            CacheError: If a row belongs to another sample.
        """
        for part in torch.arange(len(self.keys)).split(_KEYS_AT_ONCE):
            self.check_keys(part)

    def check_keys(self, samples: Tensor) -> None:
        """Compare the stored keys of these samples with the snapshot's.

        Raises:
            CacheError: If a row belongs to another sample.
        """
        span = self._span(KEYS)
        stored, asked = span.gather(self._starts(span, samples)), self.keys.index_select(0, samples)
        if not torch.equal(stored.view(torch.int64), asked.view(torch.int64)):
            odd = samples[int((stored != asked).any(dim=1).nonzero()[0])]
            raise CacheError(
                what="A stored row belongs to another sample.",
                where=f"{self.names[int(self.shard[odd])]}, row {int(self.row[odd])}",
                received=f"another sample key than that of sample {int(odd)}",
                do="run FeatureCache.verify() to see how much is affected, and purge this recipe.",
            )

    def features(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The features of these samples, in fresh memory: (B, *shape) each; shared tensors whole."""
        return next(self.batches(samples, max(1, len(samples))))

    def stored(self, samples: Tensor) -> dict[str, Tensor]:
        """The stored rows of these samples by name."""
        spans = {t.name: self._span(t.name) for t in self.frontier if not t.is_input and not t.shared}
        return {name: span.gather(self._starts(span, samples)) for name, span in spans.items()}

    def batches(self, samples: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The features of these samples in batches; what does not depend on the batch is looked up once."""
        spans = [None if t.is_input or t.shared else self._span(t.name) for t in self.frontier]
        starts = [samples if span is None else self._starts(span, samples) for span in spans]
        for own in zip(*(places.split(size) for places in starts), strict=True):
            yield tuple([
                self._passed(tensor, at) if span is None else span.gather(at)
                for tensor, span, at in zip(self.frontier, spans, own, strict=True)
            ])  # fmt: skip

    def _passed(self, tensor: FrontierTensor, samples: Tensor) -> Tensor:
        if not tensor.is_input:
            return self.shared[tensor.name].clone()
        passed = self.passed[tensor.name]
        return passed.clone() if tensor.shared else passed.index_select(0, samples)

    def _span(self, name: str) -> Span:
        if name not in self._spans:
            if not self._mapped:
                self._mapped = [self.shards.open(shard) for shard in self.names]
            self._spans[name] = Span([mapped[name] for mapped in self._mapped])
        return self._spans[name]

    def _starts(self, span: Span, samples: Tensor) -> Tensor:
        """Where the rows of these samples begin in a span."""
        row = self.row.index_select(0, samples)
        if len(self.names) == 1:
            return row.mul_(span.words) if span.words != 1 else row
        return span.firsts.index_select(0, self.shard.index_select(0, samples)).add_(row, alpha=span.words)


class Span:
    """The rows of one name in all shards as one tensor, so that one call gathers a batch from any number of them.

    The tensor spans the addresses from the first mapped shard to the last. Its row i begins i words behind the first:
    most rows overlap others, or lie where nothing is mapped; only those that begin where a stored row does are ever
    asked for.

    Args:
        mapped: (rows, *shape) of each shard, all of one dtype and shape of a row.

    Attributes:
        firsts: Where the first row of each shard begins, in words.
        words: Words of a row.
    """

    def __init__(self, mapped: list[Tensor]) -> None:
        self._mapped = mapped  # keeps the memory
        self._dtype, self._shape = mapped[0].dtype, mapped[0].shape[1:]
        row_bytes = math.prod(self._shape) * mapped[0].element_size()
        lowest = min(tensor.data_ptr() for tensor in mapped)
        distances = [tensor.data_ptr() - lowest for tensor in mapped]
        size = max(own + tensor.nbytes for own, tensor in zip(distances, mapped, strict=True))
        word = math.gcd(8, row_bytes, *distances)
        self.words = row_bytes // word
        self.firsts = torch.tensor([own // word for own in distances])
        if not self.words:  # rows of no values
            return
        memory = (ctypes.c_uint8 * size).from_address(lowest)
        flat = torch.frombuffer(memory, dtype=torch.uint8)[: size // word * word].view(_WORDS[word])
        self._rows_MW = flat.as_strided((len(flat) - self.words + 1, self.words), (1, 1))

    def gather(self, starts: Tensor) -> Tensor:
        """The rows that begin there, (B, *shape), in fresh memory."""
        if not self.words:
            return torch.empty((len(starts), *self._shape), dtype=self._dtype)
        rows_BW = self._rows_MW.index_select(0, starts)
        return rows_BW.view(self._dtype).view(len(starts), *self._shape)


def moved(values: Any, device: torch.device | None) -> Any:
    """The batch on the device of the head; where it is already there, as it is."""
    return values if device is None or device.type == "cpu" else batches.move(values, device)
