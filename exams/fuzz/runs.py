"""Many models, one after another, in processes that may die."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import torch

from .drawing import draw
from .laws import Outcome, judge
from .oracle import is_cacheable
from .shrinking import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .programs import Program


def examine(seed: int, *, is_shrunk: bool = True) -> dict[str, Any]:
    """What became of the program of a seed, as a record; a fault and a needless refusal with the smallest program."""
    program = draw(seed)
    outcome = judge(program)
    needless = outcome.verdict == "refused" and is_cacheable(program)
    record: dict[str, Any] = {"seed": seed, "verdict": outcome.verdict, "where": outcome.where, "text": outcome.text,
                              "tags": program.tags, "needless": needless}  # fmt: skip
    if is_shrunk and (needless or outcome.verdict in ("different", "crash")):
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
    with path.open("a") as lines:
        seed = first
        while time.time() < until:
            lines.write(json.dumps({"begun": seed}) + "\n")
            lines.flush()
            lines.write(json.dumps(examine(seed)) + "\n")
            seed += stride


def run(first: int, seconds: float, jobs: int, folder: Path) -> list[dict[str, Any]]:
    """Run workers, start again after one that died, and collect their records."""
    folder.mkdir(parents=True, exist_ok=True)
    until = time.time() + seconds
    paths = [folder / f"{first}-{job}.jsonl" for job in range(jobs)]
    for path in paths:
        path.unlink(missing_ok=True)
    running = {job: _start(first + job, jobs, until, paths[job]) for job in range(jobs)}
    while running:
        for job, process in [*running.items()]:
            code = process.wait()
            del running[job]
            if code:
                seed = _last_begun(paths[job])
                died = {"seed": seed, "verdict": "crash", "where": "process", "text": f"exit status {code}",
                        "tags": draw(seed).tags, "needless": False}  # fmt: skip
                with paths[job].open("a") as lines:
                    lines.write("\n" + json.dumps(died) + "\n")
                running[job] = _start(seed + jobs, jobs, until, paths[job])
    return [record for path in paths for record in read(path)]


def _start(first: int, stride: int, until: float, path: Path) -> subprocess.Popen[bytes]:
    options = ["--work", str(first), str(stride), str(until), str(path)]
    return subprocess.Popen([sys.executable, "-m", "exams.fuzz", *options])


def _last_begun(path: Path) -> int:
    return max(record["begun"] for record in _lines(path) if "begun" in record)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The finished records of a worker."""
    return (record for record in _lines(path) if "verdict" in record)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # the worker died in the middle of it
            continue
