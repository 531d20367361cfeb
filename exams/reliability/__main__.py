"""python -m exams.reliability [--parts calls kills builders shares bits hostile] [--seconds 600]: prints counts."""

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
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import frostline as fl
from exams.reliability.building import (
    Calls,
    child,
    fill,
    scratch,
    small_shards,
    violations,
    wait,
    wrong_rows,
)
from exams.reliability.cluster import cluster
from exams.reliability.damage import flipped_bits, hostile
from exams.reliability.shares import shares
from frostline.caching.store.manifest import Manifest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.shards import Shards
from frostline.core import io

if TYPE_CHECKING:
    from collections.abc import Callable

ERRNOS = [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR, errno.EACCES, errno.EROFS, errno.EDQUOT,
          errno.ESTALE, errno.EAGAIN, errno.EPERM, errno.ENOLCK]  # fmt: skip
NUMBERS = range(12)
PARTS = ["calls", "kills", "builders", "shares", "bits", "hostile", "publish"]


def main() -> int:
    """Run what was asked for, as long as was asked; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="*", default=PARTS, help="ray, too, where it is installed")
    parser.add_argument("--errnos", nargs="*", default=[errno.errorcode[code] for code in ERRNOS])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--bits", type=int, default=20_000, help="of shards, beside all of the manifests")
    parser.add_argument("--cases", type=int, default=1_000_000, help="hostile files")
    parser.add_argument("--seconds", type=float, default=1800.0, help="at most, for each part")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    small_shards()
    wrong, chance = 0, random.Random(options.seed)
    if "calls" in options.parts:
        wrong += failing_calls(options.seconds, [getattr(errno, name) for name in options.errnos])
    if "kills" in options.parts:
        wrong += kills(options.kills, options.seconds, chance)
    if "builders" in options.parts:
        wrong += builders(options.processes, options.rounds, options.seconds)
        wrong += builders(options.processes, options.rounds, options.seconds, chance)
    if "shares" in options.parts:
        wrong += shares()
    if "ray" in options.parts:
        wrong += cluster()
    if "bits" in options.parts:
        wrong += flipped_bits(options.bits, options.seed)
    if "hostile" in options.parts:
        wrong += hostile(options.cases, options.seed, options.seconds)
    if "publish" in options.parts:
        publishing()
    return int(wrong > 0)


def publishing(count: int = 1000) -> None:
    """Print how long it takes to publish a shard of a megabyte with its manifest, on the disk of temporary files."""
    chance, times = torch.Generator().manual_seed(0), list[float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / ("0" * 32)
        for _ in range(count):
            rows = {
                "sample_keys": torch.zeros(256, 16, dtype=torch.uint8),
                "low": torch.randn(256, 1024, generator=chance),
            }
            started = time.perf_counter()
            with ExitStack() as hold:
                shard = Shards(folder / "shards").write(rows, hold)
                write_manifest(folder / "manifests", Manifest(shards=(shard,), rows=(256,)))
            times.append(time.perf_counter() - started)
            if len(times) % 50 == 0:  # a fill sums its manifests up before they are many
                shutil.rmtree(folder)
    times.sort()
    print(f"publish: {count} shards of 1 MB, median {times[count // 2] * 1e3:.1f} ms, 99th of a hundred "
          f"{times[count * 99 // 100] * 1e3:.1f} ms, in wall time", flush=True)  # fmt: skip


def failing_calls(seconds: float, codes: list[int]) -> int:
    """Fail the N-th call, for all N and these errnos, on an empty cache and on one that grows."""
    end, wrong = time.monotonic() + seconds, 0
    for before in (0, 8):
        for code in codes:
            at, bad, is_done = 0, 0, False
            while not is_done and time.monotonic() < end:
                at += 1
                with scratch() as folder:
                    found, is_done = one_failing_call(Path(folder) / "cache", before, at, code)
                bad += bool(found)
                for text in found:
                    print(f"call {at}, {errno.errorcode[code]}, {before} rows before: {text}", flush=True)
            print(f"failing calls, {errno.errorcode[code]}, {before} rows before: {at} builds, {bad} with violations"
                  f"{'' if is_done else ', not to the end'}", flush=True)  # fmt: skip
            wrong += bad
    return wrong


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
    with scratch() as folder:
        root = Path(folder) / "cache"
        while done < count and time.monotonic() < end:
            numbers = range(stop)
            children = [child(partial(killed_fill, root, numbers, chance.randint(1, 90)))
                        for _ in range(chance.choice([1, 1, 3]))]  # fmt: skip
            done += sum(os.WIFSIGNALED(status) for status in map(wait, children))
            if chance.random() < 0.1:
                bad += told(violations(root, numbers), f"after {done} kills")
                sys.stderr.write(f"{done:,} of {count:,} kills, {bad} checks with violations\n")
                stop += 2
            if stop > 60:
                shutil.rmtree(root)
                stop = 4
        bad += told(violations(root, range(stop)), f"after {done} kills")
    print(f"kills: {done}, {bad} checks with violations", flush=True)
    return bad


def told(found: list[str], when: str) -> int:
    """1 if anything was found, which is printed."""
    for text in found:
        print(f"{when}: {text}", flush=True)
    return int(bool(found))


def killed_fill(root: Path, numbers: range, at: int) -> int:
    """Fill until the N-th call, and die there."""
    io.call = Calls(at, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    fill(root, numbers)
    return 0


def builders(processes: int, rounds: int, seconds: float, chance: random.Random | None = None) -> int:
    """So many processes fill one cache at once, with rows in common; then all rows must be there, each once.

    Args:
        processes: Builders of a round.
        rounds: Caches, one after the other.
        seconds: At most.
        chance: Kills every third of them on average, each at some call; what these published may stay or not.
    """
    end, run, killed, failed, lost, bad = time.monotonic() + seconds, 0, 0, 0, 0, 0
    for number in range(rounds):
        if time.monotonic() > end:
            break
        with scratch() as folder:
            root = Path(folder) / "cache"
            starts = [(7 * at + number) % 40 for at in range(processes)]
            children = [child(partial(one_builder, root, range(start, start + 20), 1 + at % 5,
                                      chance.randint(1, 600) if chance and chance.random() < 0.4 else 0))
                        for at, start in enumerate(starts)]  # fmt: skip
            ends = [wait(one) for one in children]
            dead = [os.WIFSIGNALED(status) for status in ends]
            killed += sum(dead)
            failed += sum(status != 0 for status, is_dead in zip(ends, dead, strict=True) if not is_dead)
            whole = range(min(starts), max(starts) + 20)
            known = {number for start, is_dead in zip(starts, dead, strict=True) if not is_dead
                     for number in range(start, start + 20)}  # fmt: skip
            data = fill(root, whole)
            lost += max(0, data.figures.computed - len(set(whole) - known)) + wrong_rows(data, whole)
            fill(root, range(whole.stop + 1))  # one more sample: its merge sees what all have left
            bad += told(violations(root, range(whole.stop + 1)), f"round {number}")
        run += 1
    print(f"builders: {processes} processes x {run} rounds, {killed} killed, {failed} failed, {lost} rows lost or "
          f"wrong, {bad} checks with violations", flush=True)  # fmt: skip
    return failed + lost + bad


def one_builder(root: Path, numbers: range, batch_size: int, killed_at: int = 0) -> int:
    """0 if the rows are right; it dies at a call, if it is told which."""
    if killed_at:
        io.call = Calls(killed_at, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    return int(wrong_rows(fill(root, numbers, batch_size), numbers) > 0)


if __name__ == "__main__":
    sys.exit(main())
