"""What the monitor costs: the time in its own functions, and the time that the loop loses outside of them."""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = 50  # sampled steps whose surroundings are remembered
_FEWEST = 5  # of them, before what they say is believed
_OTHERS = 2  # steps without a sample, between two samples, that tell what a step takes


class Account:
    """Keeps the time of a loop and of its watcher.

    A watcher sees only the time that passes in its own functions. A sampled step takes longer than that: modules with
    hooks are called on a slower path, and the caches hold the watcher's numbers instead of the loop's weights when the
    next step begins. So the net time of a sampled step and of the one after it is compared with the steps around them:
    the median difference is counted for every sample.

    Args:
        clock: Seconds of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.own_s = 0.0
        self._samples = 0
        self._started: float | None = None
        self._elapsed_s = 0.0
        self._step_began, self._own_then = 0.0, 0.0
        self._sampled: list[float] = []  # net seconds of the last sampled step, and of the one after it
        self._others: list[float] = []  # of the steps since then
        self._hidden: deque[float] = deque(maxlen=_KEPT)

    def resume(self) -> None:
        """The loop runs from now on."""
        self._started = self._step_began = self.clock()
        self._own_then = self.own_s

    def pause(self) -> None:
        """The loop stands still until `resume`; between two steps, or the one it is in counts for less."""
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
        hidden = median(self._hidden) if len(self._hidden) >= _FEWEST else 0.0
        return self.own_s + max(0.0, hidden) * self._samples

    def own(self, since: float) -> None:
        """The watcher worked from then, by `clock`, to now."""
        self.own_s += self.clock() - since

    def end_step(self, *, was_sampled: bool) -> None:
        """A step of the loop is done."""
        now = self.clock()
        net = (now - self._step_began) - (self.own_s - self._own_then)
        self._step_began, self._own_then = now, self.own_s
        if was_sampled:
            if len(self._sampled) == 2 and len(self._others) >= _OTHERS:
                self._hidden.append(sum(self._sampled) - 2 * median(self._others))
            self._samples += 1
            self._sampled, self._others = [net], []
        elif len(self._sampled) == 1:
            self._sampled.append(net)
        elif len(self._others) < _KEPT:
            self._others.append(net)
