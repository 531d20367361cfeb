"""More seeds for what is decided: each is judged alone, and changes nothing about its group or control.

A seed of a kept group is a case if its own twin is better and its own oracle sees the mechanism; its severity is
capped by the group's, as for the seeds that decide. What fails is left out, and counted. No judge is asked.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import parallel
from . import truth as truth_module
from .controls import CONTROLS
from .truth import BY_CODE, outcome


@dataclass(frozen=True)
class Wanted:
    """Seeds to add to one kept group (with its `value` and `severity`) or to one kept control."""

    name: str
    dataset: str
    seeds: tuple[int, ...]
    value: Any = None
    severity: int = 0


def add(
    seeds: Sequence[int],
    jobs: int,
    only: str | None = None,
    *,
    missing: bool = False,
    share: int = 1,
    path: Path = truth_module.TRUTH_FILE,
) -> None:
    """Train these seeds of what is kept, four minutes of one core a seed; the file is written every half minute.

    Args:
        seeds: Seeds that follow the ones that decide, without a gap.
        jobs: Processes.
        only: One sickness, family or control, or `controls`.
        missing: True leaves alone the seeds that are on file.
        share: Of how many groups and controls one is taken, drawn by a digest of its name.
        path: The file of decisions.
    """
    truth = truth_module.read(path)
    kept = {_key(r) for records in truth_module.load(path).values() for r in records if not r["reason"]}
    found = {_key(r): r for records in truth.values() for r in records if _key(r) in kept}
    asked = [record for record in found.values() if _is_asked(record, only) and _is_drawn(record, share)]
    wanted = [_wanted(record, seeds, missing) for record in asked]
    last = time.monotonic()

    def keep(value: tuple[Wanted, list[Any]]) -> None:
        nonlocal last
        _put(found[(value[0].name, value[0].dataset, value[0].value)], *value)
        if time.monotonic() - last > 30:
            last = time.monotonic()
            truth_module.save(truth, path)

    parallel.map_unique(decide, [each for each in wanted if each.seeds], jobs, "seeds", keep)
    truth_module.save(truth, path)


def decide(wanted: Wanted) -> tuple[Wanted, list[Any]]:
    """What `wanted` asks for, with one record (of a control: one score) for each of its seeds."""
    if wanted.name in BY_CODE:
        return wanted, [_sick_seed(wanted, seed) for seed in wanted.seeds]
    control = next(c for c in CONTROLS if c.name == wanted.name)
    ends = [outcome(control.at(wanted.dataset, seed)) for seed in wanted.seeds]
    return wanted, [round(end.score, 4) if end.evidence.is_finite else 0.0 for end in ends]


def _sick_seed(wanted: Wanted, seed: int) -> dict[str, Any]:
    sickness = BY_CODE[wanted.name]
    where = (wanted.dataset, seed, wanted.value)
    sick, twin = outcome(sickness.sick(*where)), outcome(sickness.twin(*where))
    record = truth_module.seed_record(seed, sick, twin, wanted.severity)
    if record["severity"] and not sickness.oracle(sick.evidence, twin.evidence):
        record |= {"severity": 0, "reason": "oracle: the mechanism was not seen"}
    return record


def _key(record: dict[str, Any]) -> tuple[str, str, Any]:
    return record.get("sickness") or record["control"], record["dataset"], record.get("value")


def _is_asked(record: dict[str, Any], only: str | None) -> bool:
    name = record.get("sickness") or record["control"]
    return only in (None, name, BY_CODE[name].family if name in BY_CODE else "controls")


def _is_drawn(record: dict[str, Any], share: int) -> bool:
    return hashlib.sha256(repr(_key(record)).encode()).digest()[0] % share == 0


def _wanted(record: dict[str, Any], seeds: Sequence[int], missing: bool) -> Wanted:
    known = {seed["seed"] for seed in record["seeds"]} if "seeds" in record else set(range(len(record["scores"])))
    name, dataset, value = _key(record)
    new = tuple(seed for seed in sorted(seeds) if not (missing and seed in known))
    return Wanted(name, dataset, new, value, record.get("severity", 0))


def _put(record: dict[str, Any], wanted: Wanted, new: list[Any]) -> None:
    """Put the seeds where they belong: a control's scores are in the order of its seeds."""
    if "scores" in record:
        scores = dict(enumerate(record["scores"])) | dict(zip(wanted.seeds, new, strict=True))
        record["scores"] = [scores[seed] for seed in range(len(scores))]
    else:
        others = [seed for seed in record["seeds"] if seed["seed"] not in wanted.seeds]
        record["seeds"] = sorted([*others, *new], key=lambda seed: seed["seed"])
