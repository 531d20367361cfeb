"""Ports in processes of their own: where PyTorch itself crashes or hangs, one port has no result, not the exam.

A worker judges many tasks. One that dies, or that takes too long, is replaced by a new one.
"""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

import torch

from .trials import CRASHED, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

TIME_LIMIT_S = 600.0  # for one port; the slowest took 28 s on one core of an EPYC
_STARTS = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks, but not the threads


@dataclass(frozen=True)
class Task:
    """One port that a worker makes and judges.

    Attributes:
        network: Framework and name.
        file: Which of its files.
        mode: How it is ported.
        judge: Gives its verdict, or None where the file has nothing to judge in this mode. It is pickled.
    """

    network: str
    file: str
    mode: str
    judge: Callable[[], Verdict | None]


def verdicts(tasks: Iterable[Task], *, num_workers: int = 1, time_limit_s: float = TIME_LIMIT_S) -> Iterator[Verdict]:
    """The verdict of each task, in the order of the tasks.

    Args:
        tasks: What to port.
        num_workers: How many processes work at the same time.
        time_limit_s: For each task; one that takes longer counts as crashed.
    """
    idle: SimpleQueue[_Worker] = SimpleQueue()
    workers = [_Worker(time_limit_s) for _ in range(num_workers)]
    for worker in workers:
        idle.put(worker)

    def judge(task: Task) -> Verdict | None:
        worker = idle.get()
        try:
            return worker.judge(task)
        finally:
            idle.put(worker)

    try:
        with ThreadPoolExecutor(num_workers) as threads:
            yield from (verdict for verdict in threads.map(judge, tasks) if verdict is not None)
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One process, and its successors."""

    def __init__(self, time_limit_s: float) -> None:
        self._time_limit_s = time_limit_s
        self._start()

    def judge(self, task: Task) -> Verdict | None:
        """The verdict of a task: that it crashed, if the process ended or gave no answer in time."""
        if not self._is_ready:  # its imports are no part of the first port
            self._connection.recv()
            self._is_ready = True
        self._connection.send(task.judge)
        if not self._connection.poll(self._time_limit_s):
            why = f"no result after {self._time_limit_s:.0f} s"
        else:
            try:
                found = self._connection.recv()
            except EOFError:
                self._process.join()
                why = f"the process ended by {_end(self._process.exitcode or 0)}"
            else:
                return _crashed(task, found) if isinstance(found, str) else found
        self.stop()
        self._start()
        return _crashed(task, why)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self) -> None:
        self._connection, theirs = _STARTS.Pipe()
        self._process = _STARTS.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._is_ready = False


def _end(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _crashed(task: Task, why: str) -> Verdict:
    return Verdict(task.network, task.file, task.mode, CRASHED, why)


def _serve(connection: Connection) -> None:
    """In the process: judge what comes, until nothing comes any more."""
    torch.set_num_threads(1)
    connection.send("ready")
    while True:
        try:
            judge = connection.recv()
        except EOFError:
            return
        try:
            found = judge()
        except Exception as error:  # a crash is a result, too
            found = f"{type(error).__name__}: {error}"
        connection.send(found)
