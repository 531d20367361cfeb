"""Starts the processes that train one model together on the cores of this machine, and ends them all if one fails.

They are forks of the calling process, which is the first of them: its model is the trained one afterwards, nothing has
to be pickled, and no script needs a guard of its main module. Where another program has started them (torchrun, a
script that Fabric has started once for each GPU), there is nothing to do here.
"""

from __future__ import annotations

import functools
import gc
import operator
import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from frostline.core.errors import DataError, FrostlineError
from frostline.training.fabric import import_fabric
from frostline.training.forked_process import ForkedProcess, forked, raise_first

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_P = ParamSpec("_P")
_R = TypeVar("_R")

# A process that has ended closes its connections, which the others notice at once. The limit is for one that is alive
# and does not answer: longer than the shares of a fill may differ.
_TIMEOUT = timedelta(hours=12)
_MOST, _MOST_PER_CORE = 8, 2  # processes: more are a mistake


def in_ranks(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A decorator: with `devices=N`, the function is called in N processes on the CPU; the first one's result counts.

    Nothing is started where there is a GPU, or where this process is one of several already (`LOCAL_RANK` is set).
    """

    @functools.wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        count = 1
        with suppress(TypeError):  # which the function itself refuses
            count = operator.index(kwargs.get("devices", 1))  # type: ignore[arg-type]
        if count < 2 or "LOCAL_RANK" in os.environ or torch.accelerator.is_available():
            return function(*args, **kwargs)
        return in_processes(functools.partial(function, *args, **kwargs), count)

    return called


def in_processes(function: Callable[[], _R], count: int) -> _R:
    """The result of a function that is called in so many processes at once, of which this one is the first.

    Inside of it, they are joined as a process group of `torch.distributed` (gloo), and the variables of the environment
    are those that torchrun sets.

    Raises:
        FrostlineError: That of the process that failed, which is named; the others are ended.
        DataError: If one was killed, or no process can be forked here.
    """
    _check_forks(count)
    import_fabric()  # once, before the processes part
    gc.collect()  # here: a process group of an earlier run waits, when it is deleted, for threads that a fork lacks
    threads = max(1, torch.get_num_threads() // count)
    with tempfile.TemporaryDirectory(prefix="frostline-ranks-") as folder:
        place = _Place(Path(folder) / "store", count, threads)
        others: list[ForkedProcess] = []
        try:
            for rank in range(1, count):
                others.append(forked(functools.partial(_joined, function, place, rank), rank, count))
            with _own_threads(threads), place.joined(0):
                result = function()
            for other in others:
                other.wait()
            raise_first(others)
            return result
        except BaseException as error:
            if not isinstance(error, FrostlineError) and isinstance(error, Exception):
                raise_first(others, error)
            raise
        finally:
            for other in others:
                other.end()


@dataclass(frozen=True)
class _Place:
    """Where the processes of a group meet.

    Attributes:
        store: A file that does not exist yet, in a folder of this user alone: nothing listens on the network.
        count: How many processes there are.
        threads: Of torch, in each.
    """

    store: Path
    count: int
    threads: int

    @contextmanager
    def joined(self, rank: int) -> Generator[None]:
        """Inside, this process is one of the group."""
        given = {"LOCAL_RANK": rank, "RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": self.count,
                 "LOCAL_WORLD_SIZE": self.count, "OMP_NUM_THREADS": self.threads}  # fmt: skip
        if Path("/sys/class/net/lo").exists():
            given["GLOO_SOCKET_IFNAME"] = "lo"  # type: ignore[assignment]  # processes of one machine
        before = {name: os.environ.get(name) for name in given}
        os.environ.update({name: str(value) for name, value in given.items()})
        try:
            store = torch.distributed.FileStore(str(self.store), self.count)  # pyright: ignore[reportPrivateImportUsage]
            torch.distributed.init_process_group(
                "gloo", store=store, rank=rank, world_size=self.count, timeout=_TIMEOUT
            )
            try:
                yield
            finally:
                torch.distributed.destroy_process_group()
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _joined(function: Callable[[], Any], place: _Place, rank: int) -> None:
    """Call the function as one process of the group."""
    torch.set_num_threads(place.threads)
    with place.joined(rank):
        function()


@contextmanager
def _own_threads(count: int) -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_forks(count: int) -> None:
    cores = os.cpu_count() or 1
    if count > max(_MOST, _MOST_PER_CORE * cores):
        raise DataError(
            what="There are not as many devices as fit should use.", where=f"fit(devices={count})",
            received=f"{cores} cores of this machine, and no GPU", do=f"use devices={cores} or fewer.",
        )  # fmt: skip
    why = ""
    if sys.platform != "linux":
        why = f"processes are not forked on {sys.platform}"
    elif torch.distributed.is_available() and torch.distributed.is_initialized():
        why = "this process has a process group of torch.distributed already"
    elif not torch.distributed.is_available():
        why = "this build of torch has no torch.distributed"
    if why:
        raise DataError(
            what="The processes of this training cannot be started from here.", where=f"fit(devices={count})",
            received=why, do=f"write the call into a script, and start it with torchrun --nproc-per-node={count} "
            "script.py; or use devices=1.",
        )  # fmt: skip
