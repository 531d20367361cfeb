"""What the monitor costs: the time in its own functions, and the time that the loop loses outside of them."""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = 50  # sampled steps whose surroundings are remembered
_FEWEST = 5  # of them, before what they say is believed, and from one look at them to the next


class Account:
    """Keeps the time of a loop and of its watcher.

    A watcher sees only the time that passes in its own functions. A sampled step takes longer than that: modules with
    hooks are called on a slower path, and the caches hold the watcher's numbers and code instead of the loop's when the
    next step begins. So the net time of a sampled step and of the one after it is compared with that of the steps up
    to the next sample, and the median difference is counted for every sample.

    Args:
        clock: Seconds of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.own_s = 0.0
        self._num_samples = 0
        self._started: float | None = None
        self._elapsed_s = 0.0
        self._marks: list[tuple[int, float]] = []  # (step, net seconds) before a sampled step, and after the next one
        self._hidden: deque[float] = deque(maxlen=_KEPT)
        self._hidden_s, self._num_heard = 0.0, 0  # their median, brought up to date now and then

    def resume(self) -> None:
        """The loop runs from now on."""
        self._started = self.clock()

    def pause(self) -> None:
        """The loop stands still until `resume`."""
        if self._started is not None:
            self._elapsed_s += self.clock() - self._started
            self._started = None

    @property
    def elapsed_s(self) -> float:
        """Of the loop."""
        return self._elapsed_s + (self.clock() - self._started if self._started is not None else 0.0)

    @property
    def spent_s(self) -> float:
        """Of these, for watching."""
        return self.own_s + max(0.0, self._hidden_s) * self._num_samples

    def own(self, since: float, *, times: int = 1) -> None:
        """The watcher worked from then, by `clock`, to now, and did the same so many times."""
        self.own_s += times * (self.clock() - since)

    def before_sample(self, step: int) -> None:
        """The next step is a sampled one."""
        net_s = self.elapsed_s - self.own_s
        if len(self._marks) == 2:
            (first, first_s), (second, second_s) = self._marks
            others = step - second
            if others > 0:
                self._hidden.append(second_s - first_s - (second - first) * (net_s - second_s) / others)
                self._num_heard += 1
                if self._num_heard % _FEWEST == 0:
                    self._hidden_s = median(self._hidden)
        self._marks = [(step, net_s)]
        self._num_samples += 1

    def after_sample(self, step: int) -> None:
        """A sampled step, and the one after it, are done."""
        self._marks = [*self._marks[:1], (step, self.elapsed_s - self.own_s)]
