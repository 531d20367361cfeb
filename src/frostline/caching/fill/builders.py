"""The processes that fill one dataset together: each reads its own samples, and all learn what each has read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from frostline.core.io import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from frostline.caching.fill.fill import Filling
    from frostline.caching.fill.fill_plan import FillPlan


@dataclass(frozen=True)
class SamplePart:
    """What a builder has read and stored of some samples; the rows are in the cache.

    Attributes:
        indices: Positions of the samples.
        keys: (N, 16) of them.
        targets: Of them, in order.
        passed: Their inputs that go straight to the head, in order.
        computed: How many rows were computed.
        shards: Names of the shards that hold these.
        error: The largest error of a rounded value, relative to the largest of its row.
    """

    indices: Sequence[int]
    keys: NDArray[np.uint8]
    targets: list[Any]
    passed: list[dict[str, Any]]
    computed: int
    shards: list[str]
    error: float


class Builders(Protocol):
    """Reads the samples of a fill, here or elsewhere."""

    @property
    def is_first(self) -> bool:
        """True in the process that writes what one process has to write."""
        ...

    @property
    def are_many(self) -> bool:
        """True if other processes publish rows of this fill."""
        ...

    @property
    def can_begin_again(self) -> bool:
        """Whether this process may plan anew now, or would leave the others waiting."""
        ...

    @property
    def views(self) -> int:
        """Of each sample, where this fill reads a part of a dataset of views; else 1."""
        ...

    def agree(self, plan: FillPlan) -> FillPlan:
        """The plan that all of them carry out."""
        ...

    def read(self, filling: Filling, plan: FillPlan, unread: Sequence[int], advance: Callable[[int], None]) -> None:
        """Have these samples read, and their rows computed and published where they are missing."""
        ...

    def end(self, filling: Filling) -> None:
        """All samples are known."""
        ...


class Alone:
    """This process is the only one."""

    is_first, are_many, views, can_begin_again = True, False, 1, True

    def agree(self, plan: FillPlan) -> FillPlan:
        """The plan itself."""
        return plan

    def read(self, filling: Filling, plan: FillPlan, unread: Sequence[int], advance: Callable[[int], None]) -> None:
        """Read all of them here."""
        filling.read(plan, unread, advance)

    def end(self, filling: Filling) -> None:
        """Nothing is left."""


class Group(Protocol):
    """Processes that run the same program, each with a number."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def exchanged(self, own: Any) -> list[Any]:
        """What each of them has given, in order of their numbers."""
        ...


class Together(Alone):
    """Each process of a group reads an equal range of the samples.

    Args:
        group: The processes; all of them fill the same dataset.
    """

    are_many = True

    def __init__(self, group: Group) -> None:
        self._group, self.is_first = group, group.rank == 0
        self._unknown: list[int] = []

    def agree(self, plan: FillPlan) -> FillPlan:
        """The plan of the first process: rows that others have stored in between are known to some of them only."""
        first = self._group.exchanged(plan)[0]
        self.can_begin_again = False
        self._unknown = sorted(set(first.recalled).difference(plan.recalled))
        return first

    def read(self, filling: Filling, plan: FillPlan, unread: Sequence[int], advance: Callable[[int], None]) -> None:
        """Read an own range, and take over what the others have read."""
        count = self._group.count
        own: list[int] = np.array_split(np.array(unread, np.int64), count)[self._group.rank].tolist()
        alone = [*own, *self._unknown]
        if not alone and filling.lacks_shared:
            alone = list(unread[:1])  # what all samples share follows from any of them
        part, damage = None, None
        try:
            if alone:
                filling.read(plan, alone, lambda done: advance(done * count))
            part = filling.sample_part(own)
        except Damaged as error:
            damage = error.parts()
        found: list[tuple[SamplePart | None, dict[str, str] | None]] = self._group.exchanged((part, damage))
        for _, parts in found:
            if parts is not None:  # rows of all are missing now: all of them plan anew
                self.can_begin_again = True
                raise Damaged(**parts)
        for rank, (other, _) in enumerate(found):
            if rank != self._group.rank and other is not None:
                filling.adopt(other)
