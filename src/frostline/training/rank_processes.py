"""Starts the processes that train one model together on the cores of this machine, and ends them all if one fails.

They are forks of the calling process, which is the first of them: its model is the trained one afterwards, nothing has
to be pickled, and no script needs a guard of its main module. Where another program has started them (torchrun, a
script that Fabric has started once for each GPU), there is nothing to do here.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import io
import json
import operator
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from frostline.core import errors
from frostline.core.errors import DataError, FrostlineError
from frostline.training.fabric import import_fabric

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_P = ParamSpec("_P")
_R = TypeVar("_R")

# A process that has ended closes its connections, which the others notice at once. The limit is for one that is alive
# and does not answer: longer than the shares of a fill may differ.
_TIMEOUT = timedelta(hours=12)
_REPORT_S = 10.0  # until a process whose connections are closed has said why
_MOST, _MOST_PER_CORE = 8, 2  # processes: more are a mistake
_LOOK_S = 0.5  # how often a process looks whether the first one is still there


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
        others: list[_Process] = []
        try:
            for rank in range(1, count):
                others.append(_forked(function, place, rank))
            with _own_threads(threads), place.joined(0):
                result = function()
            for other in others:
                other.wait()
            _raise_first(others)
            return result
        except BaseException as error:
            if not isinstance(error, FrostlineError) and isinstance(error, Exception):
                _raise_first(others, error)
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


class _Process:
    """Another process of the group, as the first one sees it.

    Args:
        rank: Its number.
        count: How many there are.
        pid: Of the process.
        reader: A pipe that holds its report once it has failed.
    """

    def __init__(self, rank: int, count: int, pid: int, reader: int) -> None:
        self.rank, self._name, self._pid = rank, f"process {rank} of {count} (numbered from 0)", pid
        self._reader, self._count = reader, count
        self._status: int | None = None

    def has_ended(self) -> bool:
        """True if the process is not running any more."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        if self._status is None:
            self._status = os.waitpid(self._pid, 0)[1]

    def end(self) -> None:
        """End it, if it is still running."""
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.wait()
        with suppress(OSError):
            os.close(self._reader)

    def error(self) -> FrostlineError | None:
        """Why it has failed; None if it has not, or still runs."""
        if not self.has_ended() or not self._status:
            return None
        with suppress(OSError, ValueError):
            told = json.loads(os.read(self._reader, 1 << 16))
            kind = getattr(errors, told["kind"], None)
            if kind is not None:
                parts = {**told["parts"], "where": f"{told['parts']['where']}, {self._name}"}
                return kind(**parts)
            return DataError(
                what="A process of this training stopped: the model, the loss or the data raised an error.",
                where=self._name, received=told["parts"]["received"],
                do="correct what the error names; it may come with the samples of that process alone: devices=1 meets "
                "it too.",
            )  # fmt: skip
        code = os.waitstatus_to_exitcode(self._status)
        ended = f"ended by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        return DataError(
            what="A process of this training has died.", where=self._name, received=ended,
            do="look for what ended it: often too little memory, of which every process needs its own; lower devices= "
            "or batch_size=. A run with out= goes on from its last epoch: resume=.",
        )  # fmt: skip


def _raise_first(others: list[_Process], error: Exception | None = None) -> None:
    """Raise what the first process that failed has reported.

    Args:
        others: The processes.
        error: What this process has met, since another one has closed its connections perhaps: reports are waited for.
    """
    until = time.monotonic() + (_REPORT_S if error is not None and _is_of_connection(error) else 0.0)
    while True:
        for other in others:
            if (found := other.error()) is not None:
                raise found from error
        if time.monotonic() >= until:
            return
        time.sleep(0.02)


def _is_of_connection(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "peer", "connection"))


def _forked(function: Callable[[], Any], place: _Place, rank: int) -> _Process:
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads of this process: none of them is needed in the other
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            raise DataError(
                what="A process of this training cannot be started.", where=f"fit(devices={place.count})",
                received=str(error), do="free some memory or end other processes, then run again; or use devices=1.",
            ) from error  # fmt: skip
    if pid:
        os.close(writer)
        return _Process(rank, place.count, pid, reader)
    gc.freeze()  # nothing of the calling process is deleted in this one
    code = 1
    try:
        code = _run(function, place, rank, writer, parent)
    finally:
        os._exit(code)


# The pool of threads that OpenMP has in the calling process does not exist in a fork, whose first parallel loop would
# wait for it for ever; a new thread gets a pool of its own.
def _run(function: Callable[[], Any], place: _Place, rank: int, writer: int, parent: int) -> int:
    """Call the function in another process of the group, in a thread of its own; its exit code."""
    done: list[bool] = []
    sys.stderr = io.StringIO()  # notes and bars are the first process's

    def body() -> None:
        try:
            torch.set_num_threads(place.threads)
            with place.joined(rank):
                function()
            done.append(True)
        except BaseException as error:  # the first process raises it
            os.write(writer, json.dumps(_report(error)).encode()[: 1 << 16])

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(body,), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
        if os.getppid() != parent:
            return 1
    return 0 if done else 1


def _report(error: BaseException) -> dict[str, Any]:
    if isinstance(error, FrostlineError):
        public = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        return {"kind": public, "parts": error.parts()}
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).splitlines()[0][:500] if str(error) else ""
    return {"kind": "", "parts": {"received": f"{type(error).__name__}: {text} ({frame.filename}:{frame.lineno})"}}


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
