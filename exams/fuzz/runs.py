"""Many models, one after another, in processes that may die."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import torch

from . import report
from .drawing import draw
from .laws import Outcome, judge
from .oracle import is_cacheable
from .shrinking import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .programs import Program

# Needless refusals are frequent, and to make one smaller takes ten times the time of a model.
_SHRUNK_EVERY = 20
_TOLD_EVERY_S = 30


def examine(seed: int, *, is_shrunk: bool = True) -> dict[str, Any]:
    """What became of the program of a seed, as a record; of faults and some needless refusals with the smallest one."""
    program = draw(seed)
    outcome = judge(program)
    needless = outcome.verdict == "refused" and is_cacheable(program)
    record: dict[str, Any] = {"seed": seed, "verdict": outcome.verdict, "where": outcome.where, "text": outcome.text,
                              "tags": program.tags, "needless": needless}  # fmt: skip
    is_fault = outcome.verdict in ("different", "crash")
    if is_shrunk and (is_fault or (needless and seed % _SHRUNK_EVERY == 0)):
        small = shrink(program, lambda smaller: _is_alike(smaller, outcome, needless))
        told = judge(small)
        record |= {"cause": small.tags, "small": small.source(), "small_text": f"{told.where}: {told.text}",
                   "data": [small.layout, small.inputs, small.later, small.count, small.batch]}  # fmt: skip
    return record


def _is_alike(program: Program, outcome: Outcome, needless: bool) -> bool:
    found = judge(program)
    return found.verdict == outcome.verdict and (not needless or is_cacheable(program))


def work(first: int, stride: int, until: float, path: Path) -> None:
    """One worker: seeds from `first` on, until a time; one line per model."""
    torch.set_num_threads(1)
    gc.freeze()  # PyTorch's own million objects; collecting them again and again took a seventh of the time
    gc.set_threshold(50_000, 20, 100)
    with path.open("a") as lines:
        seed = first
        while time.time() < until:
            lines.write(json.dumps({"begun": seed}) + "\n")
            lines.flush()
            lines.write(json.dumps(examine(seed)) + "\n")
            seed += stride


def run(first: int | None, seconds: float, jobs: int, folder: Path) -> list[dict[str, Any]]:
    """Run workers, start again after one that died, and return all records of the folder, those of earlier runs too.

    Args:
        first: The first seed; None goes on behind the largest one in the folder.
        seconds: How long.
        jobs: Processes.
        folder: Where each worker of each run writes a file of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    first = _next_seed(folder) if first is None else first
    paths = [folder / f"{first}-{job}-of-{jobs}.jsonl" for job in range(jobs)]
    for path in paths:
        path.unlink(missing_ok=True)
    running = {job: _start(first + job, jobs, begun + seconds, paths[job]) for job in range(jobs)}
    while running:
        for job, process in [*running.items()]:
            try:
                code = process.wait(_TOLD_EVERY_S)
            except subprocess.TimeoutExpired:
                _tell(paths, time.time() - begun)
                continue
            del running[job]
            if code:
                seed = _last_begun(paths[job], first + job)
                died = {"seed": seed, "verdict": "crash", "where": "process", "text": f"exit status {code}",
                        "tags": draw(seed).tags, "needless": False}  # fmt: skip
                with paths[job].open("a") as lines:
                    lines.write("\n" + json.dumps(died) + "\n")
                running[job] = _start(seed + jobs, jobs, begun + seconds, paths[job])
    _tell(paths, time.time() - begun)
    return recorded(folder)


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The records of all runs in a folder; one for every seed, that of the file that was written last."""
    paths = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    return [*{record["seed"]: record for path in paths for record in read(path)}.values()]


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The finished records of a worker."""
    return (record for record in _lines(path) if "verdict" in record)


def _tell(paths: list[Path], elapsed_s: float) -> None:
    """One line of progress."""
    found = report.counts(record for path in paths if path.exists() for record in read(path))
    valid = report.num_valid(found)
    counts = ", ".join(f"{found[key]:,} {key}" for key in ("same", "refused", "needless", "different", "crash"))
    sys.stderr.write(f"{elapsed_s:5.0f} s: {valid:,} valid models ({valid / elapsed_s:.1f} a second): {counts}\n")


def _next_seed(folder: Path) -> int:
    return max((record["seed"] for record in recorded(folder)), default=-1) + 1


def _start(first: int, stride: int, until: float, path: Path) -> subprocess.Popen[bytes]:
    options = ["--work", str(first), str(stride), str(until), str(path)]
    return subprocess.Popen([sys.executable, "-m", "exams.fuzz", *options])


def _last_begun(path: Path, first: int) -> int:
    return max((record["begun"] for record in _lines(path) if "begun" in record), default=first)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the worker died in the middle of it
            continue
