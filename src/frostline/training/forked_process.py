"""A forked process: started, waited for or ended, and the error that it reports when it fails."""

from __future__ import annotations

import contextvars
import gc
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from frostline.core import errors
from frostline.core.errors import DataError, FrostlineError

if TYPE_CHECKING:
    from collections.abc import Callable

_REPORT_S = 10.0  # until a process whose connections are closed has said why
_LOOK_S = 0.5  # how often a process looks whether the first one is still there


class ForkedProcess:
    """A forked process, as the one that forked it sees it.

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


def raise_first(others: list[ForkedProcess], error: Exception | None = None) -> None:
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


def forked(body: Callable[[], Any], rank: int, count: int) -> ForkedProcess:
    """Call a function in a new process, a fork of this one that ends after it.

    Args:
        body: The function; what it raises is reported.
        rank: The number of the process.
        count: How many there will be.

    Raises:
        DataError: If the system starts no further process.
    """
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
                what="A process of this training cannot be started.", where=f"fit(devices={count})",
                received=str(error), do="free some memory or end other processes, then run again; or use devices=1.",
            ) from error  # fmt: skip
    if pid:
        os.close(writer)
        return ForkedProcess(rank, count, pid, reader)
    gc.freeze()  # nothing of the calling process is deleted in this one
    code = 1
    try:
        code = _run(body, writer, parent)
    finally:
        os._exit(code)


# The pool of threads that OpenMP has in the calling process does not exist in a fork, whose first parallel loop would
# wait for it for ever; a new thread gets a pool of its own.
def _run(body: Callable[[], Any], writer: int, parent: int) -> int:
    """Call the function in a thread of its own; the exit code of this process."""
    done: list[bool] = []
    sys.stderr = io.StringIO()  # notes and bars are the first process's

    def reported() -> None:
        try:
            body()
            done.append(True)
        except BaseException as error:  # the process that forked this one raises it
            os.write(writer, json.dumps(_report(error)).encode()[: 1 << 16])

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(reported,), daemon=True)
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
