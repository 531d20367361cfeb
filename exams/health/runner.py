"""Runs judges over cases and writes what they said; scores are computed from that file alone."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import parallel
from .cases import Case, all_cases, small
from .judges import JUDGES
from .training import prepare, train

# Share of a training that is given to `heal`, which trains on four fifths of it and holds out the rest; afterwards
# the training goes on, so that everyone has seen the same batches once.
HEAL_SHARE = 0.6
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """One case, and who is to judge it."""

    case: Case
    judges: tuple[str, ...]
    kind: str
    heal_share: float = HEAL_SHARE


def examine(task: Task) -> list[dict[str, Any]]:
    """One record per judge; a judge that raises is on record with its error."""
    ask = check_up if task.kind == "checkup" else repair
    return [ask(task, name) for name in task.judges if task.kind == "checkup" or JUDGES[name]().heal is not None]


def _about(case: Case, judge: str) -> dict[str, Any]:
    return {
        "case": case.id,
        "name": case.name,
        "judge": judge,
        "family": case.family,
        "accepted": list(case.accepted),
        "severity": case.severity,
        "dataset": case.dataset,
        "part": case.part,
        "is_hard": case.is_hard,
        "network": case.recipe.network,
    }


def check_up(task: Task, judge: str) -> dict[str, Any]:
    """What the judge says about the case, and how long it took."""
    started = time.process_time()
    try:
        verdict = JUDGES[judge]().checkup(task.case)
    except Exception as error:  # a judge that falls over must not end the exam
        said: dict[str, Any] = {
            "alarm": False,
            "families": [],
            "why": "",
            "error": f"{type(error).__name__}: {error}"[:300],
        }
    else:
        said = {"alarm": verdict.alarm, "families": list(verdict.families), "why": verdict.why[:300], "error": ""}
    return _about(task.case, judge) | said | {"elapsed_s": round(time.process_time() - started, 3)}


def repair(task: Task, judge: str) -> dict[str, Any]:
    """Heal at the start, train on to the end, and compare score and CPU time with the twin's."""
    case = task.case
    reference = prepare(case.twin or case.recipe)
    plain_s = train(reference, reference.batches).elapsed_s
    setup = case.build()
    given = round(task.heal_share * len(setup.batches))
    trained = given - round(HELD_OUT_SHARE * given)
    heal = JUDGES[judge]().heal
    assert heal is not None
    error, is_accepted = "", False
    started = time.process_time()
    try:
        is_accepted = heal(setup, setup.batches[:given])
        train(setup, setup.batches[trained:])
    except Exception as raised:  # as above
        error = f"{type(raised).__name__}: {raised}"[:300]
    elapsed_s = time.process_time() - started
    return _about(case, judge) | {
        "accepted_repair": is_accepted,
        "plain": case.plain_score,
        "twin": case.twin_score,
        "healed": 0.0 if error else round(setup.evaluate(), 4),
        "time_ratio": round(elapsed_s / plain_s, 3),
        "error": error,
    }


def chosen_cases(options: argparse.Namespace) -> tuple[Case, ...]:
    """The cases that the options ask for."""
    cases = [c for c in all_cases() if options.part in ("all", c.part)]
    cases = [c for c in cases if options.only in (None, c.name, c.family or "healthy")]
    cases = [c for c in cases if not options.seeds or c.seed in options.seeds]
    return small(cases) if options.small else tuple(cases)


def tasks_for(cases: Sequence[Case], options: argparse.Namespace) -> list[Task]:
    """Checkups of everything, repairs of what can be repaired from severity 2 on and of every control."""
    judges = tuple(options.judge)
    tasks: list[Task] = []
    if not options.repair_only:
        tasks += [Task(case, judges, "checkup") for case in cases if not case.monitor_only]
    if options.repair or options.repair_only:
        treatable = [c for c in cases if not c.monitor_only and (c.family is None or (c.curable and c.severity >= 2))]
        tasks += [Task(case, judges, "repair", options.heal_share) for case in treatable]
    return tasks


def run(options: argparse.Namespace) -> None:
    """Examine, and write the results, every half minute what there is."""
    last = time.monotonic()
    results = _earlier(options.results) if options.merge else {"checkups": [], "repairs": []}
    known = {(r["case"], r["judge"], kind) for kind in ("checkups", "repairs") for r in results[kind]}
    tasks = [
        task for task in tasks_for(chosen_cases(options), options) if not (options.missing and _is_known(task, known))
    ]

    def keep(records: list[dict[str, Any]]) -> None:
        nonlocal last
        for record in records:
            kind = "checkups" if "alarm" in record else "repairs"
            if (record["case"], record["judge"], kind) in known:
                old = (record["case"], record["judge"])
                results[kind] = [r for r in results[kind] if (r["case"], r["judge"]) != old]
            results[kind].append(record)
        if time.monotonic() - last > 30:
            last = time.monotonic()
            _write(results, options)

    parallel.map_unique(examine, tasks, options.jobs, "exam", keep)
    _write(results, options)


def _is_known(task: Task, known: set[tuple[str, str, str]]) -> bool:
    kind = "checkups" if task.kind == "checkup" else "repairs"
    asked = [name for name in task.judges if task.kind == "checkup" or JUDGES[name]().heal is not None]
    return all((task.case.id, name, kind) in known for name in asked)


def _write(results: dict[str, Any], options: argparse.Namespace) -> None:
    about = {
        "machine": f"{options.jobs} processes of one thread; Python {platform.python_version()}, "
        f"torch {torch.__version__}",
        "heal_share": options.heal_share,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(results | about, indent=0) + "\n")


def _earlier(path: Path) -> dict[str, Any]:
    """What is on file about cases that are still in the exam."""
    if not path.exists():
        return {"checkups": [], "repairs": []}
    known = {case.id for case in all_cases()}
    results = json.loads(path.read_text())
    return {kind: [r for r in results[kind] if r["case"] in known] for kind in ("checkups", "repairs")}
