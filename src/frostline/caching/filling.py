"""Fill a cache: find out what is missing, prove what is there, compute the rest, publish it.

Legend: N samples of the dataset.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.company import Company
from frostline.caching.computing import Computer
from frostline.caching.dataset import CachedDataset, check_targets
from frostline.caching.gathering import Gatherer
from frostline.caching.golden import Golden, spread
from frostline.caching.keys import item_key, offered_key
from frostline.caching.manifests import publish, read_newest, with_snapshot
from frostline.caching.part import Provable
from frostline.caching.reading import Reader
from frostline.caching.recalling import TARGET, Recall
from frostline.caching.rows import Rows
from frostline.caching.shards import KEYS
from frostline.caching.writing import ShardWriter
from frostline.core import inputs as batches
from frostline.core.records import CacheFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from frostline.caching.opening import Opened
    from frostline.caching.part import FrozenPart


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
        self.opened, self.part, self.dataset, self.batch_size = opened, part, dataset, batch_size
        self.passed_names = [t.name for t in part.frontier if t.is_input and not t.shared]
        self.before = Rows(opened.shards, opened.manifest)
        self.computer = Computer(part, opened.shared())
        self.golden = Golden(self.computer, self._stored, batch_size)
        self.company = Company(self.computer)
        self.keys = np.zeros((len(dataset), 16), np.uint8)
        self.targets: list[Any] = [None] * len(dataset)
        self.passed: list[dict[str, Tensor]] = [{}] * len(dataset)
        self.computed = 0

    def run(self, advance: Callable[[int], None]) -> CachedDataset:
        """Fill, and open the result; `advance(n)` is told how many samples are done."""
        self._check_unchanged()
        unread = list(range(len(self.dataset)))
        if hasattr(self.dataset, "sample_key"):
            unread = self._recall()
            advance(len(self.dataset) - len(unread))
        if unread:
            self._read(unread, advance)
        return self._publish()

    # Samples that need not be read

    def _recall(self) -> list[int]:
        """Take what is known of samples with known keys; returns the samples that must be read."""
        for index in range(len(self.dataset)):
            self.keys[index] = np.frombuffer(offered_key(self.dataset, index), np.uint8)
        known = np.nonzero(self.before.find(self.keys) >= 0)[0]
        recalled = Recall(self.dataset, self.opened.snapshots(), self.passed_names).of(self.keys, known)
        for index, (target, passed) in recalled.items():
            self.targets[index], self.passed[index] = batches.move(target, "cpu"), passed
        if not self._are_golden(known, set(recalled)):
            self.opened.notes.append("targets are not those of the last fill: all of them were read again")
            recalled = {}
        elif len(known) > len(recalled):
            count = len(known) - len(recalled)
            self.opened.notes.append(
                f"{count} known samples were read for their targets: let the dataset offer target(i)"
            )
        return [index for index in range(len(self.dataset)) if index not in recalled]

    def _are_golden(self, known: Any, recalled: set[int]) -> bool:
        """Read some known samples and prove their rows; False if a recalled target is not the item's."""
        chosen = [int(known[at]) for at in spread(len(known))]
        targets: dict[int, Any] = {}
        for index, (inputs, target) in zip(chosen, self.reader.read(chosen), strict=True):
            self.golden.offer(index, inputs)
            targets[index] = target
        self.golden.check()
        return all(_is_same(self.targets[index], targets[index]) for index in recalled & set(chosen))

    def _stored(self, indices: list[int]) -> dict[str, Tensor]:
        return self._gatherer(self.before, self.keys[indices]).stored(torch.arange(len(indices)))

    # Samples that must be read

    def _read(self, unread: list[int], advance: Callable[[int], None]) -> None:
        """Read samples in order; unknown ones are computed and published on the way."""
        is_keyed = hasattr(self.dataset, "sample_key")
        self.reader.check_steady()
        writer = ShardWriter(self.opened.shards, self.opened.folder / "manifests", self._prove)
        waiting: dict[int, Any] = {}
        seen: set[bytes] = set()
        for index, (inputs, target) in zip(unread, self.reader.read(unread), strict=True):
            if not is_keyed:
                self.keys[index] = np.frombuffer(item_key(inputs, index), np.uint8)
            self.targets[index], self.passed[index] = target, self._passed(inputs)
            key = self.keys[index].tobytes()
            if self.before.find(self.keys[index : index + 1])[0] >= 0:
                if not is_keyed:  # else the golden rows were chosen and proven before the first item was read
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
        self.company.check(is_last=True)
        writer.finish()
        self.golden.check()

    def _compute(self, waiting: dict[int, Any], writer: ShardWriter) -> None:
        indices = list(waiting)
        rows = self.computer.compute(list(waiting.values()), indices)
        self.company.offer(list(waiting.values()), indices, rows)
        if not self.computed:
            self.company.check()
        writer.add(torch.from_numpy(self.keys[indices]), rows)
        self.computed += len(indices)

    def _prove(self) -> None:
        """What is stored, what is to be stored, and the model: all three, before anything is published."""
        self.golden.check()
        self.company.check()
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

    def _publish(self) -> CachedDataset:
        """Publish the snapshot, and open it."""
        check_weights = self.part.check_weights if isinstance(self.part, Provable) else None
        if check_weights is not None:
            check_weights()
        targets = check_targets(self.targets)
        passed = {name: torch.stack([own[name] for own in self.passed]) for name in self.passed_names}
        reused = int((self.before.find(self.keys) >= 0).sum())
        self._publish_snapshot(targets, passed)
        gatherer = self._gatherer(Rows(self.opened.shards, self.opened.manifest), self.keys, passed)
        figures = CacheFigures(
            len(self.keys), self.computed, reused, self.opened.num_bytes(), str(self.opened.folder),
            self.company.num_proven,
        )  # fmt: skip
        return CachedDataset(gatherer, targets, figures, tuple(self.opened.notes), self.computer.device, check_weights)

    def _publish_snapshot(self, targets: Any, passed: dict[str, Tensor]) -> None:
        manifests, shards, shared = self.opened.folder / "manifests", self.opened.shards, self.computer.shared
        tensors = {KEYS: torch.from_numpy(self.keys), **passed}
        if isinstance(targets, Tensor):
            tensors[TARGET] = targets
        snapshot = shards.write(tensors)
        common = shards.write(shared) if shared else None
        names = tuple([t.name, list(t.shape), str(t.dtype), t.shared] for t in self.part.frontier)
        _, current, _ = read_newest(manifests)
        changed = with_snapshot(current, snapshot, common, names)
        if changed != current:
            current = publish(manifests, lambda old: with_snapshot(old, snapshot, common, names))
        self.opened.manifest = current

    def _gatherer(self, rows: Rows, keys: Any, passed: dict[str, Tensor] | None = None) -> Gatherer:
        shard, row = rows.locate(rows.find(keys))
        return Gatherer(
            rows.shards, rows.names, shard, row, torch.from_numpy(keys), self.part.frontier, self.computer.shared,
            passed or {},
        )  # fmt: skip


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
