"""Fill a cache: find out what is missing, prove what is there, compute the rest, publish it.

Legend: N samples of the dataset.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.fill.builders import Alone, SamplePart
from frostline.caching.fill.climbed_rows import ClimbedRows
from frostline.caching.fill.fill_plan import FillPlan, Samples, plan_fill, positions
from frostline.caching.fill.frozen_pass import Computer, Golden, spread
from frostline.caching.fill.known_rows import KnownRows
from frostline.caching.fill.missing_rows import MissingRows
from frostline.caching.fill.row_proof import RowProof
from frostline.caching.fill.sample_groups import SampleGroups
from frostline.caching.fill.view_cost import check_room, measured_cost
from frostline.caching.keys import item_key
from frostline.caching.part import Faster, Provable, items_of
from frostline.caching.reading.cached_dataset import CachedDataset, check_targets
from frostline.caching.reading.gather import Gatherer
from frostline.caching.reading.mix import Mixable
from frostline.caching.samples.dataset_reader import IS_RANDOM, Reader
from frostline.caching.samples.views import Views
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.shard_writer import ShardWriter, merge
from frostline.caching.store.storage_type import EXACT, Storage
from frostline.core import inputs as batches
from frostline.core.errors import CacheError, DataError
from frostline.core.io import Damaged
from frostline.core.records import CacheFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from frostline.caching.fill.builders import Builders
    from frostline.caching.fill.earlier import Climb, Earlier
    from frostline.caching.part import FrozenPart
    from frostline.caching.store.opening import Opened
    from frostline.caching.store.rows import Rows
    from frostline.core.padding import Padding
    from frostline.core.records import FrontierTensor


class Filling:
    """One call of `FeatureCache.fill`.

    Args:
        opened: The recipe's folder.
        part: The frozen part.
        dataset: A map-style dataset.
        batch_size: Samples per pass of the frozen part.
        num_workers: Worker processes that read items.
        earlier: A fill of the same dataset at another frost line, or None.
        padding: How samples of differing size become a batch; None where all have one size.
        storage: How rows lie in shards; None: as they are.
        builders: Who reads the samples; None: this process.
    """

    def __init__(
        self, opened: Opened, part: FrozenPart, dataset: Any, batch_size: int, num_workers: int,
        earlier: Earlier | None = None, padding: Padding | None = None, storage: Storage | None = None,
        builders: Builders | None = None,
    ) -> None:  # fmt: skip
        self.builders = builders or Alone()
        self.storage = storage or Storage(EXACT, part)
        self.reader = Reader(dataset, items_of(part), num_workers)
        self.opened, self.part, self.dataset, self.batch_size = opened, part, dataset, batch_size
        self.views = dataset.count if isinstance(dataset, Views) else 1
        self.earlier = earlier
        if isinstance(dataset, Views):  # a number that fits no disk fits no memory either
            check_room(opened.folder, dataset, len(dataset) - len(opened.rows()), self.storage.row_bytes)
        self.computer, self.padding = Computer(part, opened.shared(), padding), padding
        self.computer.rounding = self.storage.bound
        self.waiting = SampleGroups(batch_size, is_one_size=padding is None)
        self.row_proof = RowProof(self.computer)
        passed = [t.name for t in part.frontier if t.is_input and not t.shared]
        self.samples = Samples(len(dataset), passed, opened.folder)
        self.rows = rows = KnownRows(opened, self.samples)
        keys, frontier, own = self.samples.keys, part.frontier, self.storage  # no self: a ring would keep shards mapped
        self.golden = Golden(
            self.computer, lambda chosen: _stored(rows.now, keys[chosen], frontier, padding, own), batch_size, padding
        )
        opened.notes += part.notes if isinstance(part, Faster) else []
        self.computed = self.num_adopted = 0
        self.own: list[str] = []  # shards of this fill

    def plan(self) -> FillPlan:
        """What is known, what must be read, what must be computed; it is carried out by this filling only."""
        if self.earlier is not None:
            plan = self.earlier.plan(self.samples, self.rows.before, self.opened.manifest.row_s)
        else:
            plan = plan_fill(self.dataset, self.samples, self.rows.before, self.opened)
        return replace(plan, views=self.views)

    def run(self, plan: FillPlan, advance: Callable[[int], None], *, is_fresh: bool = False) -> CachedDataset:
        """Carry out the plan, and open the result.

        Args:
            plan: Of this filling.
            advance: Called with the number of samples that are done since the last call.
            is_fresh: The frozen part was recorded just now, so that it need not be recorded again before it is run.
        """
        if not is_fresh:
            self._check_unchanged()
        if plan.known is not None:
            plan = self._proven(plan, plan.known)
        plan = self.builders.agree(plan)
        if plan.recalled or plan.known is not None:
            advance(len(plan.recalled))
        if plan.num_missing and self.earlier is not None and (climb := self.earlier.climb(self.part)) is not None:
            self._climb(climb, replace(plan, recalled=plan.known or ()).read(self.opened.folder), advance)
        elif unread := plan.read(self.opened.folder):
            self.builders.read(self, plan, unread, advance)
        self.builders.end(self)
        return self._result()

    @property
    def lacks_shared(self) -> bool:
        """True if tensors that all samples share are not known, since this process has computed no row."""
        return any(own.shared and not own.is_input for own in self.part.frontier) and not self.computer.shared

    def sample_part(self, indices: Sequence[int]) -> SamplePart:
        """What this process has read and stored of these samples."""
        samples, at = self.samples, np.array(indices, np.int64)
        return SamplePart(indices, samples.keys[at], [samples.targets[i] for i in indices],
                          [samples.own_inputs(i) for i in indices], self.computed, self.own,
                          self.storage.error)  # fmt: skip

    def adopt(self, part: SamplePart) -> None:
        """Take over what another process has read and stored."""
        self.samples.keys[np.array(part.indices, np.int64)] = part.keys
        for index, target, passed in zip(part.indices, part.targets, part.passed, strict=True):
            self.samples.recall(index, target, passed)
        self.computed += part.computed
        self.own = [*self.own, *part.shards]
        self.storage.error = max(self.storage.error, part.error)

    def read(self, plan: FillPlan, unread: Sequence[int], advance: Callable[[int], None]) -> None:
        """Read samples and compute what is missing; of a random dataset the error says what views of it would cost."""
        if isinstance(self.dataset, Views):
            check_room(self.opened.folder, self.dataset, plan.num_missing, self.storage.row_bytes)
            unread = self.dataset.in_reading_order(unread)
        try:
            writer = self._writer(self._prove)
            MissingRows(self, writer, unread, advance, plan).compute()
            self.own = [*self.own, *writer.published]
        except DataError as error:
            if not error.what.startswith(IS_RANDOM):
                raise
            cost = measured_cost(self.part, self.dataset, self.reader.watched.form, self.batch_size)
            do = f"{error.do} {cost}." if cost is not None else error.do
            raise DataError(what=error.what, where=error.where, received=error.received, do=do) from error

    def _proven(self, plan: FillPlan, known: Sequence[int]) -> FillPlan:
        """The plan, after some known samples were read and their rows proven; a wrong target has all of them read."""
        chosen = [known[at] for at in spread(len(known))]
        recalled, is_right = plan.recalled, True
        for index, (inputs, target) in zip(chosen, self.reader.read(chosen), strict=True):
            self.golden.offer(index, inputs)
            is_right &= index not in recalled or _is_same(self.samples.targets[index], target)
        self.golden.check()
        if not is_right:
            self.opened.notes.append("target(i) does not give the targets of the items: all of them were read")
            return plan.reading_all()
        if num_read := len(known) - len(recalled):
            what = "inputs" if hasattr(self.dataset, "target") else "targets: let the dataset offer target(i)"
            self.opened.notes.append(f"{num_read} known samples were read for their {what}")
        return plan

    def _climb(self, climb: Climb, missing: Sequence[int], advance: Callable[[int], None]) -> None:
        writer = self._writer(self._check_unchanged)
        ClimbedRows(self, climb, writer, missing, advance).compute()
        self.own = writer.published
        self.opened.notes.append(f"{self.computed:,} rows were computed from those of the line below")

    def _writer(self, before_publish: Callable[[], None]) -> ShardWriter:
        return ShardWriter(self.opened, before_publish, self.row_seconds, max(self.views, self.builders.views),
                           self.storage)  # fmt: skip

    def row_seconds(self) -> float:
        """Seconds to read a sample and to run the frozen part for it, as an uncached epoch does."""
        return self.reader.watched.watch.per_sample + self.computer.watch.per_sample

    def _prove(self) -> None:
        """What is stored, what is to be stored, and the model: all three, before anything is published."""
        self.golden.check()
        self.row_proof.check()
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if isinstance(self.part, Provable):
            self.part.check_unchanged()

    def _result(self) -> CachedDataset:
        """Publish the snapshot, tidy up, and open what is there now: every row must be found."""
        check_weights = self.part.check_weights if isinstance(self.part, Provable) else None
        if check_weights is not None:
            check_weights()
        keys, passed = self.samples.keys, self.samples.passed()
        targets, sizes = check_targets(self.samples.targets, self.padding)
        before = self.rows.before.find(keys)
        reused = len(positions(len(keys), lambda part: before[part] >= 0, self.opened.folder)) + self.num_adopted
        snapshot = {KEYS: torch.from_numpy(keys), **passed} if passed else {}
        if self.builders.is_first:
            self._try("remembered", lambda: self.opened.publish_snapshot(snapshot, self.computer.shared))
        if self.own and self.builders.is_first:
            self._try("merged", lambda: merge(self.opened, self.own))
        if self.own or snapshot or self.builders.are_many:
            self.opened.refresh()
        rows = self.opened.rows()
        self._check_found(rows.find(keys))
        storage = self.storage if self.storage.rounded else None
        shared = self.computer.shared or self.opened.shared()  # others may have computed all rows
        gatherer = Gatherer(rows, keys, self.part.frontier, shared, passed, self.padding, storage)
        if self.padding is not None and (sizes_text := gatherer.sizes_text()):
            self.opened.notes.append(sizes_text)
        figures = CacheFigures(
            len(keys) // self.views, self.computed, reused, self.opened.num_bytes(), self.opened.text,
            self.row_proof.num_proven,
            (not self.computed and self.opened.manifest.row_s) or self.row_seconds(), self.views, self.storage.kind,
            max(self.storage.error, self.opened.manifest.error),
        )  # fmt: skip
        return CachedDataset(
            gatherer, targets, figures, tuple(self.opened.notes), self.computer.device, check_weights, self.views,
            Mixable(self.part, self.dataset, self.reader.watched.form), sizes,
        )  # fmt: skip

    def _try(self, verb: str, write: Callable[[], object]) -> None:
        """Do what only saves work later; a full or read-only disk still serves what is stored."""
        try:
            write()
        except Damaged:
            raise
        except CacheError as error:
            self.opened.notes.append(f"not {verb}, a later fill may do more work: {error.what} {error.received}")

    # A fill ends without an error only if every row is found: another process may have purged, moved or damaged files
    # while this one computed.
    def _check_found(self, found: NDArray[np.int64]) -> None:
        missing = positions(len(found), lambda part: found[part] < 0, self.opened.folder)
        if missing:
            raise CacheError(
                what="Rows of this fill are gone: another process deletes files of the cache.",
                where=self.opened.text,
                received=f"{len(missing)} of {len(found)} samples have no row, the first is sample {missing[0]}",
                do="fill again when nothing purges or moves the cache; rows that are still there are used.",
            )


def _stored(
    rows: Rows, keys: NDArray[np.uint8], frontier: tuple[FrontierTensor, ...], padding: Padding | None, storage: Storage
) -> dict[str, Tensor]:
    return Gatherer(rows, keys, frontier, {}, {}, padding, storage).stored(torch.arange(len(keys), device="cpu"))


@contextmanager
def progress_bar(total: int, *, is_shown: bool, views: int = 1) -> Generator[Callable[[int], None]]:
    """A progress bar on standard error, or nothing where that is a file."""
    if not is_shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal and not console.is_jupyter:  # a file would get empty lines
        yield lambda _: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Frozen pass" if views == 1 else f"Frozen pass, {views} views", total=total)
        yield lambda count: progress.advance(task, count)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two targets have one content; a target without bytes is reported by the check of targets, not here."""
    try:
        return item_key(_as_tensors(one), 0) == item_key(_as_tensors(other), 0)
    except (DataError, TypeError, ValueError, RuntimeError):
        return True


def _as_tensors(target: Any) -> Any:
    """Numbers and arrays of a target as doubles: `target(i)` may give an int where the item holds a tensor."""
    return batches.map_tensors(batches.map_arrays(target), lambda tensor: tensor.double())
