"""Fill a cache: find out what is missing, compute that, publish it, prove what was there.

Legend: N samples of the dataset.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.computing import Computer, ShardWriter, check_golden
from frostline.caching.dataset import CachedDataset, check_targets
from frostline.caching.gathering import Gatherer
from frostline.caching.keys import item_key, offered_key
from frostline.caching.manifests import Manifest, publish, read_newest, without_shard
from frostline.caching.reading import Reader
from frostline.caching.rows import Rows
from frostline.caching.shards import KEYS, Shards, write_shard
from frostline.core import inputs as batches
from frostline.core.errors import CacheError
from frostline.core.io import disk_errors, make_folder, sweep
from frostline.core.records import CacheFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from frostline.caching.part import FrozenPart

GOLDEN_ROWS = 16
_TARGET = "target"


class Filling:
    """One call of `FeatureCache.fill`.

    Args:
        folder: The recipe's folder.
        part: The frozen part.
        dataset: A map-style dataset.
        batch_size: Samples per pass of the frozen part.
        num_workers: Worker processes that read items.
    """

    def __init__(self, folder: Path, part: FrozenPart, dataset: Any, batch_size: int, num_workers: int) -> None:
        self.folder, self.part, self.dataset, self.batch_size = folder, part, dataset, batch_size
        names = {tensor.name for tensor in part.frontier}
        keep = frozenset(key for key in batches.LABEL_KEYS if f"input.{key}" in names)
        self.reader = Reader(dataset, keep, num_workers)
        self.notes: list[str] = []
        self.computed = 0

    def run(self, advance: Callable[[int], None]) -> CachedDataset:
        """Fill, and open the result; `advance(n)` is told how many samples are done."""
        for name in ("shards", "manifests"):
            make_folder(self.folder / name)
            sweep(self.folder / name)
        manifest = self._open()
        before = Rows(self.folder / "shards", manifest)
        snapshot = self._snapshot(manifest)
        computer = Computer(self.part, self._shared(manifest))
        keys, targets, passed = self._go_through(before, snapshot, computer, advance)
        known = np.nonzero(before.find(keys) >= 0)[0]
        if self._is_relabelled(known, computer, before, keys, targets):
            self.notes.append("targets changed since the last fill: all of them were read again")
            keys, targets, passed = self._go_through(before, {}, computer, advance)
        return self._opened(keys, targets, passed, computer, len(keys) - self.computed)

    # What is there

    def _open(self) -> Manifest:
        """The newest whole manifest, without shards that are damaged: those are set aside."""
        _, manifest, notes = read_newest(self.folder / "manifests")
        self.notes += notes
        for name in (*manifest.shards, manifest.shared, manifest.snapshot):
            if name is None:
                continue
            try:
                Shards(self.folder / "shards").open(name)
            except CacheError as error:
                self.notes.append(f"shard {name[:12]} was set aside: {error.received}; its rows are computed anew")
                self._set_aside(name)
                manifest = publish(self.folder / "manifests", lambda old, bad=name: _without(old, bad))
        return manifest

    def _set_aside(self, name: str) -> None:
        make_folder(self.folder / "set-aside")
        path = self.folder / "shards" / name
        with disk_errors("set aside", path):
            if path.exists() or path.is_symlink():
                path.rename(self.folder / "set-aside" / name)

    def _shared(self, manifest: Manifest) -> dict[str, Tensor]:
        return dict(Shards(self.folder / "shards").open(manifest.shared)) if manifest.shared else {}

    def _snapshot(self, manifest: Manifest) -> dict[bytes, int]:
        """Positions in the last snapshot by sample key; a key with two different targets is left out."""
        if manifest.snapshot is None or not hasattr(self.dataset, "sample_key"):
            return {}
        self._last = Shards(self.folder / "shards").open(manifest.snapshot)
        if _TARGET not in self._last:
            return {}
        keys = self._last[KEYS].numpy()
        positions = {key.tobytes(): at for at, key in enumerate(keys)}
        return positions if len(positions) == len(keys) else {}

    # What is missing

    def _go_through(
        self, before: Rows, snapshot: dict[bytes, int], computer: Computer, advance: Callable[[int], None]
    ) -> tuple[Any, list[Any], list[Any]]:
        """(keys (N, 16), targets, passed inputs); unknown samples are computed and published on the way."""
        count = len(self.dataset)
        keys = np.zeros((count, 16), np.uint8)
        targets: list[Any] = [None] * count
        passed: list[Any] = [None] * count
        unread = list(range(count))
        if hasattr(self.dataset, "sample_key"):
            for index in range(count):
                keys[index] = np.frombuffer(offered_key(self.dataset, index), np.uint8)
            unread = self._recall(before, snapshot, keys, targets, passed)
            advance(count - len(unread))
        if len(unread):
            self._read(unread, before, keys, targets, passed, computer, advance)
        return keys, targets, passed

    def _recall(
        self, before: Rows, snapshot: dict[bytes, int], keys: Any, targets: list[Any], passed: list[Any]
    ) -> list[int]:
        """Take targets of known samples from the dataset or the last snapshot; returns what must be read."""
        is_known = before.find(keys) >= 0
        offers_target, names = hasattr(self.dataset, "target"), self._passed_names()
        unread: list[int] = []
        for index, key in enumerate(keys):
            at = snapshot.get(key.tobytes()) if is_known[index] else None
            if not is_known[index] or (at is None and (names or not offers_target)):
                unread.append(index)
                continue
            targets[index] = self.dataset.target(index) if offers_target else self._last[_TARGET][at]
            passed[index] = {name: self._last[name][at] for name in names}
        return unread

    def _read(
        self, unread: list[int], before: Rows, keys: Any, targets: list[Any], passed: list[Any],
        computer: Computer, advance: Callable[[int], None],
    ) -> None:  # fmt: skip
        offers = hasattr(self.dataset, "sample_key")
        self.reader.check_steady()
        writer, pending, waiting = ShardWriter(self.folder), list[int](), list[Any]()
        seen: set[bytes] = set()
        for index, (inputs, target) in zip(unread, self.reader.read(unread), strict=True):
            if not offers:
                keys[index] = np.frombuffer(item_key(inputs, index), np.uint8)
            targets[index], passed[index] = target, self._passed(inputs)
            key = keys[index].tobytes()
            if key not in seen and before.find(keys[index : index + 1])[0] < 0:
                pending.append(index)
                waiting.append(inputs)
            seen.add(key)
            if len(pending) == self.batch_size:
                self._compute(waiting, pending, keys, computer, writer)
                pending, waiting = [], []
            advance(1)
        if pending:
            self._compute(waiting, pending, keys, computer, writer)
        writer.flush()

    def _compute(
        self, inputs: list[Any], indices: list[int], keys: Any, computer: Computer, writer: ShardWriter
    ) -> None:
        rows = computer.compute(inputs, indices)
        writer.add(torch.from_numpy(keys[indices]), rows)
        self.computed += len(indices)

    def _passed_names(self) -> list[str]:
        return [tensor.name for tensor in self.part.frontier if tensor.is_input and not tensor.shared]

    def _passed(self, inputs: Any) -> dict[str, Tensor]:
        """The model inputs of a sample that go straight to the head."""
        names = self._passed_names()
        if not names:
            return {}
        found = batches.leaves(batches.map_arrays(inputs))
        return {name: found[name.removeprefix("input.")] for name in names}

    # Proof and result

    def _is_relabelled(self, known: Any, computer: Computer, before: Rows, keys: Any, targets: list[Any]) -> bool:
        """Recompute golden rows of samples that were there before; True if their targets changed."""
        if not len(known):
            return False
        chosen = known[np.unique(np.linspace(0, len(known) - 1, GOLDEN_ROWS).astype(int))].tolist()
        items = list(self.reader.read(chosen))
        gatherer = self._gatherer(before, keys, {}, computer.shared)
        for start in range(0, len(chosen), self.batch_size):
            part = chosen[start : start + self.batch_size]
            found = computer.compute([inputs for inputs, _ in items[start : start + self.batch_size]], part)
            stored = gatherer.stored(torch.tensor(part))
            check_golden(found, stored, part)
        return any(not _is_same(targets[at], target) for at, (_, target) in zip(chosen, items, strict=True))

    def _gatherer(self, rows: Rows, keys: Any, passed: dict[str, Tensor], shared: dict[str, Tensor]) -> Gatherer:
        shard, row = rows.locate(rows.find(keys))
        return Gatherer(rows.shards, rows.names, shard, row, torch.from_numpy(keys), self.part.frontier, shared, passed)

    def _opened(
        self, keys: Any, targets: list[Any], passed: list[Any], computer: Computer, reused: int
    ) -> CachedDataset:
        stacked = check_targets(targets)
        inputs = {name: torch.stack([part[name] for part in passed]) for name in self._passed_names()}
        manifest = self._publish_snapshot(keys, stacked, inputs, computer.shared)
        gatherer = self._gatherer(Rows(self.folder / "shards", manifest), keys, inputs, computer.shared)
        size = sum(tensor.bytes_per_sample for tensor in self.part.frontier)
        figures = CacheFigures(len(keys), self.computed, reused, size * len(keys), str(self.folder))
        return CachedDataset(gatherer, stacked, figures, tuple(self.notes), computer.device)

    def _publish_snapshot(
        self, keys: Any, targets: Any, passed: dict[str, Tensor], shared: dict[str, Tensor]
    ) -> Manifest:
        tensors = {KEYS: torch.from_numpy(keys), **passed}
        if isinstance(targets, Tensor):
            tensors[_TARGET] = targets
        snapshot = write_shard(self.folder / "shards", tensors)
        common = write_shard(self.folder / "shards", shared) if shared else None
        names = tuple([t.name, list(t.shape), str(t.dtype), t.shared] for t in self.part.frontier)
        _, manifest, _ = read_newest(self.folder / "manifests")
        if (manifest.snapshot, manifest.shared) == (snapshot, common):
            return manifest
        return publish(
            self.folder / "manifests",
            lambda old: replace(old, snapshot=snapshot, shared=common, tensors=names),
        )


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


def _without(manifest: Manifest, name: str) -> Manifest:
    kept = without_shard(manifest, name)
    return replace(
        kept,
        shared=None if kept.shared == name else kept.shared,
        snapshot=None if kept.snapshot == name else kept.snapshot,
    )


def _is_same(one: Any, other: Any) -> bool:
    a, b = (batches.leaves({"target": torch.as_tensor(x) if not isinstance(x, (dict, tuple, list)) else x})
            for x in (one, other))  # fmt: skip
    return list(a) == list(b) and all(torch.equal(a[name].double(), b[name].double()) for name in a)
