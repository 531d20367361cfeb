"""Rows that are read into memory a window of an epoch at a time, where not all of them fit, or mapping is not safe.

Legend: W rows of a window, B batch.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import sys
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.store.mapped_shard import KEYS
from frostline.core import io
from frostline.core.file_systems import is_network, memory_bytes
from frostline.core.io import Damaged, disk_errors, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from frostline.caching.reading.gather import Gatherer
    from frostline.core.records import FrontierTensor

_SHARE = 0.5  # of the machine's memory, if no budget is given: the rest is for the model and the page cache
_IN_USE = 4  # a window, the next one, batches on their way, and what their copies take
_BLOCK_BYTES = 2**20
_WINDOW_BYTES = 2**28
_BLOCKS = 64  # of a window, at least: a batch meets samples of so many places
_OPEN_FILES = 64
# A thread costs up to a third of a step that need not wait (measured on warm rows), and saves what the disk takes.
_WAITED_SHARE = 0.05


@dataclass(frozen=True)
class Sizes:
    """How an epoch is cut.

    Attributes:
        block: Samples that are read together.
        window: Samples that are in memory, and are shuffled, together.
    """

    block: int
    window: int


def sizes_of(gatherer: Gatherer, budget_bytes: int | None, batch_size: int) -> Sizes | None:
    """How to read rows within a budget of memory; None where all of them may be mapped.

    Args:
        gatherer: Of the rows.
        budget_bytes: That stored rows may take; None is half of the memory that this process may have.
        batch_size: Samples of a batch; a window holds whole batches.
    """
    if any(tensor.is_varying for tensor in gatherer.frontier):
        return None
    of_row = sum(tensor.bytes_per_sample for tensor in _stored(gatherer)) or 1
    budget = int(_SHARE * memory_bytes()) if budget_bytes is None else budget_bytes
    if len(gatherer.keys) * of_row <= budget and not must_read(gatherer):
        return None
    window_bytes = min(_WINDOW_BYTES, budget // _IN_USE)
    window = max(1, window_bytes // of_row // batch_size) * batch_size
    return Sizes(max(1, min(_BLOCK_BYTES // of_row, window // _BLOCKS)), window)


def must_read(gatherer: Gatherer) -> bool:
    """True where a mapped row may end the process: on a disk of another machine. Varying rows are mapped even so."""
    is_varying = any(tensor.is_varying for tensor in gatherer.frontier)
    return not is_varying and is_network(gatherer.shards.folder)


class Windows:
    """Reads rows by position, sorted as they lie on the disk; no page of a shard's rows is mapped by it.

    Args:
        gatherer: Of the rows.
    """

    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer, self._stored = gatherer, _stored(gatherer)
        self._stride = int(gatherer.row.max()) + 1  # more than a shard has rows
        self._files: OrderedDict[int, tuple[int, dict[str, int]]] = OrderedDict()
        self._lock = Lock()  # a file that one thread closes may be the one that another reads

    def __reduce__(self) -> tuple[type[Windows], tuple[Gatherer]]:
        return Windows, (self._gatherer,)  # a copy, or one in another process, opens files of its own

    def __del__(self) -> None:
        for descriptor, _ in getattr(self, "_files", {}).values():
            os.close(descriptor)

    def read(self, samples: Tensor) -> Window:
        """The rows of these samples, (W,), in memory.

        Raises:
            CacheError: If a row cannot be read, or belongs to another sample.
        """
        own = self._gatherer
        shard_W, row_W = own.places(samples)
        by_place = (shard_W * self._stride + row_W).argsort()
        shard_W, row_W = shard_W[by_place], row_W[by_place]
        widths = {KEYS: 16, **{tensor.name: _row_bytes(tensor) for tensor in self._stored}}
        memory = {name: _memory(len(samples), width) for name, width in widths.items()}
        starts = torch.ones(len(samples), dtype=torch.bool, device="cpu")
        starts[1:] = (shard_W[1:] != shard_W[:-1]) | (row_W[1:] != row_W[:-1] + 1)
        firsts = [*starts.nonzero().squeeze(1).tolist(), len(samples)]
        with self._lock:
            for first, stop in pairwise(firsts):
                self._read_run(int(shard_W[first]), int(row_W[first]), {n: m[first:stop] for n, m in memory.items()})
        asked = own.keys.index_select(0, samples[by_place])
        if not torch.equal(memory[KEYS], asked):
            odd = int((memory[KEYS] != asked).any(1).nonzero()[0])
            raise own.misplaced(int(samples[by_place][odd]))
        at = torch.empty_like(by_place)
        at[by_place] = torch.arange(len(samples), device="cpu")
        rows = {t.name: memory[t.name].view(t.dtype).view(len(samples), *t.shape) for t in self._stored}
        return Window(own, samples, at, rows)

    def _read_run(self, shard: int, row: int, parts: dict[str, Tensor]) -> None:
        """Rows that lie one behind the other in a shard, into these parts of memory."""
        path = self._gatherer.shards.path(self._gatherer.names[shard])
        with disk_errors("read", path):
            descriptor, offsets = self._file(shard)
            for name, part in parts.items():
                _read_into(descriptor, part.reshape(-1).numpy().data, offsets[name] + row * part.shape[1], path)

    def _file(self, shard: int) -> tuple[int, dict[str, int]]:
        """(descriptor, where the values of each tensor begin) of a shard, checked when it was first opened."""
        known = self._files.pop(shard, None)
        if known is None:
            name = self._gatherer.names[shard]
            opened = self._gatherer.shards.open(name)
            if self._stored:
                _ = opened[self._stored[0].name]  # what is taken out of a shard was compared with its digest
            descriptor, _ = open_regular(self._gatherer.shards.path(name))
            known = (descriptor, _offsets(descriptor))
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1][0])
        self._files[shard] = known
        return known


class Window:
    """Rows in memory.

    Args:
        gatherer: Says what a batch consists of.
        samples: (W,) in the order in which they are given out.
        at: (W,) where each lies in `rows`.
        rows: (W, ...) by name.
    """

    def __init__(self, gatherer: Gatherer, samples: Tensor, at: Tensor, rows: dict[str, Tensor]) -> None:
        self._gatherer, self._samples, self._at, self._rows = gatherer, samples, at, rows

    def batches(self, size: int) -> Iterator[tuple[Tensor, ...]]:
        """The features in batches, in fresh memory."""
        for samples, at in zip(self._samples.split(size), self._at.split(size), strict=True):
            yield tuple([self._of(tensor, samples, at) for tensor in self._gatherer.frontier])

    def _of(self, tensor: FrontierTensor, samples: Tensor, at: Tensor) -> Tensor:
        own = self._gatherer
        if tensor.shared:
            return (own.passed if tensor.is_input else own.shared)[tensor.name].clone()
        if tensor.is_input:
            return own.passed[tensor.name].index_select(0, samples)
        rows, storage = self._rows[tensor.name].index_select(0, at), own.storage
        if storage is None or tensor.name not in storage.rounded:
            return rows
        scales = storage.scale_name(tensor.name)
        return storage.loaded(tensor.name, rows, None if scales is None else self._rows[scales].index_select(0, at))


def ahead(
    chunks: Iterable[Tensor], read: Callable[[Tensor], Window], size: int
) -> Generator[Iterator[tuple[Tensor, ...]]]:  # fmt: skip
    """The batches of the windows of these chunks; a thread reads the next one where steps would wait for the disk.

    As long as reading has waited, beyond its own work, for less than a twentieth of the time that the steps of a window
    take, each is read when it is asked for.
    """
    rest = iter(chunks)
    for chunk in rest:
        started, worked = time.monotonic(), time.thread_time()
        window = read(chunk)
        waited_s = time.monotonic() - started - (time.thread_time() - worked)
        started = time.monotonic()
        yield window.batches(size)
        del window  # while the next one is read
        if waited_s > _WAITED_SHARE * (time.monotonic() - started):
            break
    following = next(rest, None)
    if following is None:
        return
    with ThreadPoolExecutor(1, "frostline-rows") as thread:
        coming = thread.submit(read, following)
        while True:
            window, following = coming.result(), next(rest, None)
            if following is not None:
                coming = thread.submit(read, following)
            yield window.batches(size)
            del window
            if following is None:
                return


def _stored(gatherer: Gatherer) -> list[FrontierTensor]:
    """The tensors that lie in shards, as they lie there."""
    return [tensor for tensor in gatherer.stored_frontier if not tensor.is_input and not tensor.shared]


def _row_bytes(tensor: FrontierTensor) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


# Pages of this process alone, which may be large; on Windows they always are its own.
_PRIVATE: dict[str, int] = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}


def _memory(rows: int, width: int) -> Tensor:
    """(rows, width) bytes of a mapping of their own, which goes back to the kernel at once, as an allocator may not."""
    if not rows * width:
        return torch.empty((rows, width), dtype=torch.uint8, device="cpu")
    memory = mmap.mmap(-1, rows * width, **_PRIVATE)
    with suppress(AttributeError, OSError):  # of 2 MB at a time, where the kernel can: half the time of a read
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8).view(rows, width)


def _offsets(descriptor: int) -> dict[str, int]:
    """Where the values of each tensor of a safetensors file begin; the file was checked."""
    length = int.from_bytes(io.call(os.pread, descriptor, 8, 0), "little")
    header = json.loads(io.call(os.pread, descriptor, length, 8))
    return {name: 8 + length + own["data_offsets"][0] for name, own in header.items() if "data_offsets" in own}


def _read_into(descriptor: int, memory: memoryview, offset: int, path: Any) -> None:
    while memory:
        count = io.call(os.preadv, descriptor, [memory], offset)
        if not count:
            raise Damaged(
                what="A shard of the cache became shorter while it was read.", where=str(path),
                received=f"nothing at byte {offset}",
                do="fill the cache again: FeatureCache.fill sets the shard aside and computes its rows anew.",
            )  # fmt: skip
        memory, offset = memory[count:], offset + count
