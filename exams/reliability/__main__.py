"""python -m exams.reliability [--kills 2000] [--processes 32] [--rounds 20] [--seconds 600]: prints counts."""

from __future__ import annotations

import argparse
import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import frostline as fl
from exams.reliability.building import (
    Calls,
    fill,
    num_double_rows,
    small_shards,
    violations,
    wrong_rows,
)
from frostline.core import io

if TYPE_CHECKING:
    from collections.abc import Callable

ERRNOS = [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR, errno.EACCES, errno.EROFS, errno.EDQUOT,
          errno.ESTALE, errno.EAGAIN, errno.EPERM, errno.ENOLCK]  # fmt: skip
NUMBERS = range(12)


def main() -> int:
    """Run all three for as long as was asked; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1800.0, help="at most, for each of the three")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    small_shards()
    wrong = failing_calls(options.seconds)
    wrong += kills(options.kills, options.seconds, random.Random(options.seed))
    wrong += builders(options.processes, options.rounds, options.seconds)
    return int(wrong > 0)


def failing_calls(seconds: float) -> int:
    """Fail the N-th call, for all N and errnos, on an empty cache and on one that grows."""
    end, tried, bad = time.monotonic() + seconds, 0, 0
    for before in (0, 8):
        for code in ERRNOS:
            at, is_done = 0, False
            while not is_done and time.monotonic() < end:
                at += 1
                with tempfile.TemporaryDirectory() as folder:
                    found, is_done = one_failing_call(Path(folder) / "cache", before, at, code)
                tried += 1
                bad += bool(found)
                for text in found:
                    print(f"call {at}, {errno.errorcode[code]}, {before} rows before: {text}", flush=True)
    print(f"failing calls: {tried} builds, {bad} with violations", flush=True)
    return bad


def one_failing_call(root: Path, before: int, at: int, code: int, numbers: range = NUMBERS) -> tuple[list[str], bool]:
    """(violations, whether there was no call of this number)."""
    if before:
        fill(root, range(before))
    real, found = io.call, list[str]()

    def fail(function: Callable[..., object]) -> None:
        raise OSError(code, os.strerror(code))

    calls = Calls(at, fail)
    io.call = calls
    try:
        if wrong := wrong_rows(fill(root, numbers), numbers):
            found.append(f"success with {wrong} wrong rows")
    except fl.FrostlineError as error:
        if not all(error.parts().values()):
            found.append(f"an empty part: {error}")
    except Exception as error:
        found.append(f"raw {type(error).__name__}: {error}")
    finally:
        io.call = real
    return found + violations(root, numbers), calls.count < at


def kills(count: int, seconds: float, chance: random.Random) -> int:
    """Kill a builder at a call by chance, again and again on one growing cache, with others beside it at times."""
    end, done, bad, stop = time.monotonic() + seconds, 0, 0, 4
    root = Path(tempfile.mkdtemp()) / "cache"
    while done < count and time.monotonic() < end:
        numbers = range(stop)
        children = [child(partial(killed_fill, root, numbers, chance.randint(1, 90)))
                    for _ in range(chance.choice([1, 1, 3]))]  # fmt: skip
        done += sum(os.WIFSIGNALED(status) for status in map(wait, children))
        if chance.random() < 0.1:
            found = violations(root, numbers)
            bad += bool(found)
            for text in found:
                print(f"after {done} kills: {text}", flush=True)
            stop += 2
        if stop > 60:
            shutil.rmtree(root)
            stop = 4
    found = violations(root, range(stop)) if root.exists() else []
    shutil.rmtree(root.parent)
    print(f"kills: {done}, {bad + bool(found)} checks with violations", flush=True)
    return bad + bool(found)


def killed_fill(root: Path, numbers: range, at: int) -> int:
    """Fill until the N-th call, and die there."""
    io.call = Calls(at, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    fill(root, numbers)
    return 0


def builders(processes: int, rounds: int, seconds: float) -> int:
    """So many processes fill one cache at once, with rows in common; then all rows must be there, each once."""
    end, run, failed, lost, double = time.monotonic() + seconds, 0, 0, 0, 0
    for number in range(rounds):
        if time.monotonic() > end:
            break
        root = Path(tempfile.mkdtemp()) / "cache"
        starts = [(7 * at + number) % 40 for at in range(processes)]
        children = [child(partial(one_builder, root, range(start, start + 20), 1 + at % 5))
                    for at, start in enumerate(starts)]  # fmt: skip
        failed += sum(wait(one) != 0 for one in children)
        whole = range(min(starts), max(starts) + 20)
        known = {number for start in starts for number in range(start, start + 20)}
        data = fill(root, whole)
        lost += data.figures.computed - len(set(whole) - known) + wrong_rows(data, whole)
        fill(root, range(whole.stop + 1))  # one more sample: its merge sees what all have left
        double += num_double_rows(root)
        run += 1
        shutil.rmtree(root.parent)
    print(f"builders: {processes} processes x {run} rounds, {failed} failed, {lost} rows lost or wrong, "
          f"{double} rows twice", flush=True)  # fmt: skip
    return failed + lost + double


def one_builder(root: Path, numbers: range, batch_size: int) -> int:
    """0 if the rows are right."""
    return int(wrong_rows(fill(root, numbers, batch_size), numbers) > 0)


def child(run: Callable[[], int]) -> int:
    """The id of a forked process that runs this and ends with its result; 99 if it raises."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        status = run()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        os._exit(status)


def wait(process: int) -> int:
    """The status with which it ended."""
    return os.waitpid(process, 0)[1]


if __name__ == "__main__":
    sys.exit(main())
