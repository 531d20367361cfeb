"""Many small trainings over a few processes, one thread each, with progress on stderr."""

from __future__ import annotations

import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

import torch

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


def one_thread() -> None:
    """What each process starts with: small matrices are slower on two threads, and CPU time is then wall time."""
    torch.set_num_threads(1)
    # PyTorch warns once for each LSTM copied to float64; the copy is meant.
    warnings.filterwarnings("ignore", category=UserWarning)


def progress(what: str, done: int, total: int, started: float) -> None:
    """One line that overwrites itself."""
    end = "\n" if done == total else ""
    sys.stderr.write(f"\r{what}: {done}/{total}, {time.monotonic() - started:.0f} s{end}")
    sys.stderr.flush()


def map_unique(
    function: Callable[[T], R],
    items: Iterable[T],
    jobs: int,
    what: str,
    on_value: Callable[[R], None] = lambda value: None,
) -> dict[T, R]:
    """The function's value for each distinct item, computed once, by `jobs` processes; `on_value` gets each."""
    unique = list(dict.fromkeys(items))
    found: dict[T, R] = {}
    started = time.monotonic()
    if jobs <= 1:
        one_thread()
        for item in unique:
            found[item] = function(item)
            on_value(found[item])
            progress(what, len(found), len(unique), started)
        return found
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=one_thread) as pool:
        for item, value in pool.imap_unordered(_Paired(function), unique, chunksize=1):
            found[item] = value
            on_value(value)
            progress(what, len(found), len(unique), started)
    return found


class _Paired:
    """Gives the item back beside its value, so that values may come in any order."""

    def __init__(self, function: Callable[[T], R]) -> None:
        self.function = function

    def __call__(self, item: T) -> tuple[T, R]:
        return item, self.function(item)
