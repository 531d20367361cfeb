"""The ranges of samples that actors of a cluster fill, and this process where no actor gets on."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.caching.fill.builders import SamplePart

TRIES = 3  # of a range, before what ends its actors is taken for its own fault
# An actor takes seconds to start. This process goes on by itself after a minute, and takes actors as they come.
_START_S = 60.0
# A range takes seconds to an hour. What takes longer than four others, and than this, is computed here as well.
_RANGE_S, _TIMES_LONGEST = 600.0, 4.0


@dataclass
class _Job:
    """A range at which an actor works.

    Attributes:
        actor: It.
        tries: Actors that have died over the range.
        indices: Positions of the samples.
        since: When it got the range.
    """

    actor: Any
    tries: int
    indices: list[int]
    since: float


class Ranges:
    """Gives out ranges to actors until all are done.

    A range goes to actors that have started only: one for which the cluster has no room keeps nothing waiting.

    Args:
        ray: The module.
        ranges: Positions of the samples of each.
        new_actor: Makes an actor, which starts when the cluster has room for it.
        num_actors: How many there should be, now.
        here: Computes a range in this process.
    """

    def __init__(
        self, ray: Any, ranges: Sequence[list[int]], new_actor: Callable[[], Any], num_actors: Callable[[], int],
        here: Callable[[list[int]], None],
    ) -> None:  # fmt: skip
        self._ray, self._new_actor, self._num_actors, self._here = ray, new_actor, num_actors, here
        self._waiting = deque((0, indices) for indices in ranges)
        self._starting: dict[Any, Any] = {}  # actor by the answer that is waited for
        self._idle: list[Any] = []
        self._at_work: dict[Any, _Job] = {}  # by the result that is waited for
        self._since, self._is_stuck, self._longest_s, self._num_failed = time.monotonic(), False, 0.0, 0
        self.num_here = self.num_again = 0
        self.deaths: list[int] = []

    def run(self, take: Callable[[SamplePart], None]) -> None:
        """Have all of them filled.

        Args:
            take: Gets what an actor has filled.

        Raises:
            DataError: If actors die over one range again and again.
            RayTaskError: What an actor has raised.
        """
        try:
            while self._waiting or self._at_work:
                self._give_out()
                if (done := self._next()) is None:
                    self._help()
                elif done in self._starting:
                    self._started(done)
                else:
                    self._finished(done, take)
        finally:
            for actor in [*self._starting.values(), *(job.actor for job in self._at_work.values())]:
                self._ray.kill(actor)  # one that hangs, or waits for room, would keep its place

    def notes(self) -> list[str]:
        """What went otherwise than it should."""
        found = [f"a builder died, and its {count:,} samples went to another one" for count in self.deaths]
        if self.num_here:
            found.append(f"the cluster had no room for a builder, and this process filled {self.num_here:,} samples")
        if self.num_again:
            found.append(f"builders took too long, and this process filled {self.num_again:,} samples of theirs")
        return found

    def _give_out(self) -> None:
        while self._waiting and self._idle:
            actor, (tries, indices) = self._idle.pop(), self._waiting.popleft()
            self._at_work[actor.fill.remote(indices)] = _Job(actor, tries, indices, time.monotonic())
        while (
            len(self._starting) < len(self._waiting) and len(self._starting) + len(self._at_work) < self._num_actors()
        ):
            actor = self._new_actor()
            self._starting[actor.ready.remote()] = actor

    def _next(self) -> Any:
        """What is done next; None if nothing was for too long."""
        limit_s = max(_RANGE_S, _TIMES_LONGEST * self._longest_s) if self._at_work else _START_S
        left_s = 0.0 if self._is_stuck else max(0.0, self._since + limit_s - time.monotonic())
        found = self._ray.wait([*self._starting, *self._at_work], num_returns=1, timeout=left_s)[0]
        if not found:
            self._is_stuck = True
            return None
        self._since, self._is_stuck = time.monotonic(), False
        return found[0]

    def _started(self, done: Any) -> None:
        actor = self._starting.pop(done)
        try:
            self._ray.get(done)
        except self._ray.exceptions.RayActorError as error:
            self._num_failed += 1
            if self._num_failed == TRIES and self._waiting:
                raise died(self._waiting[0][1], error) from error
            return
        self._num_failed = 0
        self._idle.append(actor)

    def _finished(self, done: Any, take: Callable[[SamplePart], None]) -> None:
        job = self._at_work.pop(done)
        try:
            part = self._ray.get(done)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError) as error:
            if job.tries + 1 == TRIES:
                raise died(job.indices, error) from error
            self.deaths.append(len(job.indices))
            self._waiting.appendleft((job.tries + 1, job.indices))
            return
        self._longest_s = max(self._longest_s, time.monotonic() - job.since)
        self._idle.append(job.actor)
        take(part)

    def _help(self) -> None:
        """Compute one range here: one that no actor has, else that which one has had for longest."""
        if self._waiting:
            indices = self._waiting.popleft()[1]
            self.num_here += len(indices)
        else:
            job = self._at_work.pop(min(self._at_work, key=lambda own: self._at_work[own].since))
            indices = job.indices
            self.num_again += len(indices)
            self._ray.kill(job.actor)
        self._here(indices)


def died(indices: Sequence[int], error: Exception) -> DataError:
    """What to say of samples over which builders die."""
    return DataError(
        what=f"{TRIES} builders have died over the same samples.", where=f"samples {indices[0]} to {indices[-1]}",
        received=str(error).strip().splitlines()[0][:300],
        do="look for what ends them: often too little memory for the model, a batch (batch_size=) or a sample. What is "
        "stored is kept, and the next fill goes on from there.",
    )  # fmt: skip
