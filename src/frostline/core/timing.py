"""Seconds of several things, measured in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence


@dataclass
class Stopwatch:
    """Seconds that some samples took, a few at a time.

    Attributes:
        seconds: In all.
        samples: How many.
    """

    seconds: float = 0.0
    samples: int = 0

    @contextmanager
    def lap(self, samples: int) -> Generator[None]:
        """The block takes its time for so many samples."""
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started
        self.samples += samples

    @property
    def per_sample(self) -> float:
        """Seconds of one sample; 0 before the first lap."""
        return self.seconds / self.samples if self.samples else 0.0


def timed(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, work of a GPU included."""
    wait()
    started = clock()
    action()
    wait()
    return clock() - started


def interleaved(
    actions: Sequence[Callable[[], object]],
    *,
    rounds: int,
    before: Sequence[Callable[[], object]] | None = None,
    budget_s: float = 3.0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], ...]:
    """The times of each action over `rounds` rounds, after one that warms up; who goes first takes turns.

    Args:
        actions: What is timed.
        rounds: Times that are kept of each.
        before: Called right before the action of the same place, untimed.
        budget_s: After so many seconds three rounds are enough.
        clock: What the times are read from.
    """
    times: tuple[list[float], ...] = tuple([] for _ in actions)
    started = time.perf_counter()
    for at in range(rounds + 1):
        if at > 3 and time.perf_counter() - started > budget_s:
            break
        for place in (at % len(actions) + k for k in range(len(actions))):
            place %= len(actions)
            if before is not None:
                before[place]()
            seconds = timed(actions[place], clock)
            if at:
                times[place].append(seconds)
    return times


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """The median of the ratios of times of the same round."""
    return median(a / b for a, b in zip(first, second, strict=True))


def wait() -> None:
    """Until the accelerator has done what it was given."""
    if torch.cuda.is_initialized():  # else it has nothing to do, and asking would start it
        torch.cuda.synchronize()
