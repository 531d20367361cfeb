"""Each model in a process of its own, with limits of memory and processor time: a model that takes more is a result."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

import torch

from .judging import CRASHED, Verdict, judge
from .peers import judge_peer, traced

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from .cases import Case
    from .peers import Peer

# A fork has what was imported before it, which takes longer than to judge a small model.
_STARTS = multiprocessing.get_context("fork")
_WAITS = 20.0  # times the limit, on a busy machine; a process that waits uses no processor time
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")


def trial(case: Case, names: list[str], seconds: float, gib: int) -> dict[str, dict[str, Any]]:
    """The verdicts of a case by name; what was found before a limit is kept.

    Args:
        case: The model.
        names: Of cuts, or of a peer and a cut.
        seconds: Of the processor, for each.
        gib: Of memory.
    """
    found: dict[str, dict[str, Any]] = {}
    while missing := [name for name in names if name not in found]:
        ours, theirs = _STARTS.Pipe()
        process = _STARTS.Process(target=_serve, args=(case, missing, theirs, seconds, gib))
        process.start()
        theirs.close()
        try:
            while ours.poll(_WAITS * seconds):
                name, verdict = ours.recv()
                found[name] = verdict
            process.kill()
        except EOFError:
            pass
        process.join()
        if process.exitcode:  # the next one goes on behind the verdict that this one did not give
            failed = next(name for name in missing if name not in found)
            found[failed] = {"outcome": CRASHED, "detail": _end(process.exitcode, seconds)}
    return found


def _end(code: int, seconds: float) -> str:
    if code == -signal.SIGPROF:
        return f"no result after {seconds:.0f} s of the processor"
    return f"the process ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def _serve(case: Case, names: list[str], connection: Connection, seconds: float, gib: int) -> None:
    """In the process: judge, and send what was found."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (gib << 30, gib << 30))
    peers: dict[str, Peer] = {}
    for name in names:
        kind, _, cut = name.rpartition(": ")
        signal.setitimer(signal.ITIMER_PROF, seconds)
        started = time.process_time()
        try:
            if kind:
                peers[kind] = peers.get(kind) or traced(case, kind)
                verdict = judge_peer(case, cut, peers[kind])
            else:
                verdict = judge(case, cut)
        except Exception as error:
            verdict = Verdict(CRASHED, _told(error, gib))
        connection.send((name, {**vars(verdict), "seconds": round(time.process_time() - started, 1)}))
    connection.close()
    os._exit(0)  # the handlers of the end are those of the parent


def _told(error: BaseException, gib: int) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(part in text for part in _OUT_OF_MEMORY):
        return f"more than {gib} GiB of memory"
    return text[:600] + "\n" + traceback.format_exc()[-1500:]
