"""Fill a cache: find out what is missing, prove what is there, compute the rest, publish it.

Legend: N samples of the dataset.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.cached_dataset import CachedDataset, check_targets
from frostline.caching.dataset_reader import Reader, Recall, content_of
from frostline.caching.frozen_pass import Computer, Golden, spread
from frostline.caching.gather import Gatherer
from frostline.caching.keys import item_key, offered_keys
from frostline.caching.part import Provable
from frostline.caching.row_proof import RowProof
from frostline.caching.shard_writer import ShardWriter, merge
from frostline.caching.shards import KEYS
from frostline.core import inputs as batches
from frostline.core.errors import CacheError
from frostline.core.records import CacheFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from frostline.caching.opening import Opened
    from frostline.caching.part import FrozenPart
    from frostline.caching.rows import Rows
    from frostline.core.records import FrontierTensor


# Items that are read again after all were read: a fiftieth of them, at least four, at most as many as golden rows.
_SHARE_AGAIN, _FEW_AGAIN = 50, 4


class Filling:
    """One call of `FeatureCache.fill`.

    Args:
        opened: The recipe's folder.
        part: The frozen part.
        dataset: A map-style dataset.
        batch_size: Samples per pass of the frozen part.
        num_workers: Worker processes that read items.
    """

    def __init__(self, opened: Opened, part: FrozenPart, dataset: Any, batch_size: int, num_workers: int) -> None:
        names = {tensor.name for tensor in part.frontier}
        keep = frozenset(key for key in batches.LABEL_KEYS if f"input.{key}" in names)
        self.reader = Reader(dataset, keep, num_workers)
        self.is_keyed = hasattr(dataset, "sample_key")
        self.opened, self.part, self.dataset, self.batch_size = opened, part, dataset, batch_size
        self.passed_names = [t.name for t in part.frontier if t.is_input and not t.shared]
        self.before = opened.rows()
        self.computer = Computer(part, opened.shared())
        self.row_proof = RowProof(self.computer)
        self.keys = keys = np.zeros((len(dataset), 16), np.uint8)
        before, frontier = self.before, part.frontier  # no self: a ring would keep shards mapped until it is collected
        self.golden = Golden(self.computer, lambda chosen: _stored(before, keys[chosen], frontier), batch_size)
        self.targets: list[Any] = [None] * len(dataset)
        self.passed: list[dict[str, Tensor]] = [{}] * len(dataset)
        self.computed = 0
        self.own: list[str] = []  # shards of this fill

    def run(self, advance: Callable[[int], None]) -> CachedDataset:
        """Fill, and open the result; `advance(n)` is told how many samples are done."""
        self._check_unchanged()
        unread = list(range(len(self.dataset)))
        if self.is_keyed:
            unread = self._recall()
            advance(len(self.dataset) - len(unread))
        if unread:
            self._read(unread, advance)
        return self._result()

    # Samples that need not be read

    def _recall(self) -> list[int]:
        """Take what is known of samples with known keys; returns the samples that must be read."""
        self.keys[:] = offered_keys(self.dataset)
        known = np.nonzero(self.before.find(self.keys) >= 0)[0]
        recalled = self._recalled(known)
        is_read = np.ones(len(self.keys), np.bool_)
        if not self._are_golden(known, recalled):
            self.opened.notes.append("target(i) does not give the targets of the items: all of them were read")
            return list(range(len(self.keys)))
        if len(known) > len(recalled):
            what = "inputs" if hasattr(self.dataset, "target") else "targets: let the dataset offer target(i)"
            self.opened.notes.append(f"{len(known) - len(recalled)} known samples were read for their {what}")
        is_read[recalled] = False
        return np.nonzero(is_read)[0].tolist()

    def _recalled(self, known: NDArray[np.int64]) -> list[int]:
        """Take targets from the dataset itself, and inputs of the head from earlier snapshots."""
        target_of = getattr(self.dataset, "target", None)
        if target_of is None:
            return []
        found: list[int] = known.tolist()
        if self.passed_names:
            passed = Recall(self.opened.snapshots(), self.passed_names).of(self.keys, known)
            found = list(passed)
            for index, own in passed.items():
                self.passed[index] = own
        for index in found:
            self.targets[index] = target_of(index)
        return found

    def _are_golden(self, known: NDArray[np.int64], recalled: list[int]) -> bool:
        """Read some known samples and prove their rows; False if a recalled target is not the item's."""
        chosen = [int(known[at]) for at in spread(len(known))]
        targets: dict[int, Any] = {}
        for index, (inputs, target) in zip(chosen, self.reader.read(chosen), strict=True):
            self.golden.offer(index, inputs)
            targets[index] = target
        self.golden.check()
        return all(_is_same(self.targets[index], targets[index]) for index in set(chosen).intersection(recalled))

    # Samples that must be read

    def _read(self, unread: list[int], advance: Callable[[int], None]) -> None:
        """Read samples in order; unknown ones are computed and published on the way."""
        self.reader.check_steady()
        writer = ShardWriter(self.opened, self._prove)
        waiting: dict[int, Any] = {}
        seen: set[bytes] = set()
        chosen = {unread[at] for at in spread(len(unread), max(_FEW_AGAIN, len(unread) // _SHARE_AGAIN))}
        read_before: dict[int, tuple[bytes, bytes]] = {}
        for index, (inputs, target) in zip(unread, self.reader.read(unread), strict=True):
            if not self.is_keyed:
                self.keys[index] = np.frombuffer(item_key(inputs, index), np.uint8)
            self.targets[index], self.passed[index] = target, self._passed(inputs)
            if index in chosen:
                read_before[index] = content_of((inputs, target), index)
            key = self.keys[index].tobytes()
            if self.before.find(self.keys[index : index + 1])[0] >= 0:
                if not self.is_keyed:  # else the golden rows were chosen and proven before the first item was read
                    self.golden.offer(index, inputs)
            elif key not in seen:
                seen.add(key)
                waiting[index] = inputs
            if len(waiting) == self.batch_size:
                self._compute(waiting, writer)
                waiting.clear()
            advance(1)
        if waiting:
            self._compute(waiting, writer)
        self.reader.check_again(read_before)
        self.row_proof.check(is_last=True)
        writer.finish()
        self.golden.check()
        self.own = writer.published

    def _compute(self, waiting: dict[int, Any], writer: ShardWriter) -> None:
        indices, inputs = list(waiting), list(waiting.values())
        batch = batches.collate(inputs, indices)
        rows = self.computer.compute(batch, indices)
        self.row_proof.offer(inputs, batch, indices, rows)
        if not self.computed:
            self.row_proof.check()
        writer.add(torch.from_numpy(self.keys[indices]), rows)
        self.computed += len(indices)

    def _prove(self) -> None:
        """What is stored, what is to be stored, and the model: all three, before anything is published."""
        self.golden.check()
        self.row_proof.check()
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if isinstance(self.part, Provable):
            self.part.check_unchanged()

    def _passed(self, inputs: Any) -> dict[str, Tensor]:
        """The model inputs of a sample that go straight to the head."""
        if not self.passed_names:
            return {}
        found = batches.leaves(batches.map_arrays(inputs))
        return {name: found[name.removeprefix("input.")].cpu() for name in self.passed_names}

    # Result

    def _result(self) -> CachedDataset:
        """Publish the snapshot, tidy up, and open what is there now: every row must be found."""
        check_weights = self.part.check_weights if isinstance(self.part, Provable) else None
        if check_weights is not None:
            check_weights()
        targets = check_targets(self.targets)
        passed = {name: torch.stack([own[name] for own in self.passed]) for name in self.passed_names}
        reused = int((self.before.find(self.keys) >= 0).sum())
        snapshot = {KEYS: torch.from_numpy(self.keys), **passed} if passed else {}
        self._try("remembered", lambda: self.opened.publish_snapshot(snapshot, self.computer.shared))
        if self.own:
            self._try("merged", lambda: merge(self.opened, self.own))
        if self.own or snapshot:
            self.opened.refresh()
        rows = self.opened.rows()
        self._check_found(rows.find(self.keys))
        gatherer = Gatherer(rows, self.keys, self.part.frontier, self.computer.shared, passed)
        figures = CacheFigures(
            len(self.keys), self.computed, reused, self.opened.num_bytes(), str(self.opened.folder),
            self.row_proof.num_proven,
        )  # fmt: skip
        return CachedDataset(gatherer, targets, figures, tuple(self.opened.notes), self.computer.device, check_weights)

    def _try(self, verb: str, write: Callable[[], object]) -> None:
        """Do what only saves work later; a full or read-only disk still serves what is stored."""
        try:
            write()
        except CacheError as error:
            self.opened.notes.append(f"not {verb}, a later fill may do more work: {error.what} {error.received}")

    def _check_found(self, found: NDArray[np.int64]) -> None:
        missing = np.nonzero(found < 0)[0]
        if len(missing):
            raise CacheError(
                what="Rows of this fill are gone: another process deletes files of the cache.",
                where=str(self.opened.folder),
                received=f"{len(missing)} of {len(found)} samples have no row, the first is sample {missing[0]}",
                do="fill again when nothing purges or moves the cache; rows that are still there are used.",
            )


def _stored(rows: Rows, keys: NDArray[np.uint8], frontier: tuple[FrontierTensor, ...]) -> dict[str, Tensor]:
    return Gatherer(rows, keys, frontier, {}, {}).stored(torch.arange(len(keys), device="cpu"))


@contextmanager
def progress_bar(total: int, *, is_shown: bool) -> Generator[Callable[[int], None]]:
    """A progress bar on standard error, or nothing."""
    if not is_shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Frozen pass", total=total)
        yield lambda count: progress.advance(task, count)


def _is_same(one: Any, other: Any) -> bool:
    a, b = (batches.leaves({"target": torch.as_tensor(x) if not isinstance(x, (dict, tuple, list)) else x})
            for x in (one, other))  # fmt: skip
    return list(a) == list(b) and all(torch.equal(a[name].double(), b[name].double()) for name in a)
