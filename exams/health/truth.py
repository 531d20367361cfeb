"""Ground truth, decided before any judge runs, by training: the twin rule, the undo rule, the float64 oracle.

A group is one value of a sickness's knob on one data set, over four seeds. It is sick if its twin is better in at
least three seeds; how much better is its severity. Its mechanism must be seen in at least three seeds. A family is
a right answer if undoing that factor alone restores 80% of the gap. Whatever fails is dropped, and counted.
A control is healthy if no undo makes it better by 5 points, the gap at which mild sickness begins.
`seeds.py` adds further seeds to what the four have decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import oracles, parallel
from .controls import CONTROLS, SEEDS
from .data import load as load_data
from .families import SICKNESSES, Sickness
from .oracles import Evidence
from .recipe import Recipe
from .training import prepare, train
from .undos import CONTROL_UNDOS, UNDOS, Undo

# Decided first: what thresholds are tuned on. Sequences and images take longest.
PRIORITY = {"blobs": 0, "circles": 0, "digits": 0, "cancer": 1}
TRUTH_FILE = Path(__file__).with_name("truth.json")
# Lower bounds of severities 1 (sub-clinical), 2 (mild), 3 (clear) and 4 (terminal), in points of the score.
SEVERITY_POINTS = (2.0, 5.0, 15.0, 40.0)
NUM_AGREEING = 3
RESTORED_SHARE = 0.8
BY_CODE = {sickness.code: sickness for sickness in SICKNESSES}
UNDO_SEEDS = (0, 2)  # one of the tuning part, one of the held-out part
CHANCE_MARGIN = 0.05
HEALTHY_POINTS = 5.0
REFERENCE_POINTS = 12.0  # a control (a twin) may lie this far below the plain network (the best twin) on the same rows


@dataclass(frozen=True)
class Outcome:
    """How one training ended."""

    score: float
    evidence: Evidence


@lru_cache(maxsize=4096)
def outcome(recipe: Recipe) -> Outcome:
    """Train a recipe to its end, with evidence from before and after."""
    setup = prepare(recipe)
    start = oracles.at_start(setup)
    course = train(setup, setup.batches, measure=True)
    return Outcome(setup.evaluate(), Evidence(**start, **oracles.at_end(setup, course)))


def severity_of(sick: float, twin: float, is_finite: bool = True) -> int:
    """0 (not sick) to 4 from two scores; a training that turned into NaN and lost anything is terminal."""
    points = 100 * (twin - sick)
    if not is_finite and points >= SEVERITY_POINTS[0]:
        return 4
    return sum(points >= bound for bound in SEVERITY_POINTS)


def _own_severity(sick: Outcome, twin: Outcome) -> int:
    return severity_of(sick.score, twin.score, sick.evidence.is_finite)


def seed_record(seed: int, sick: Outcome, twin: Outcome, severity: int) -> dict[str, Any]:
    """One seed of a group whose severity is given: no seed is more severe than its group."""
    mine = min(_own_severity(sick, twin), severity)
    return {"seed": seed, "severity": mine, "sick": round(sick.score, 4), "twin": round(twin.score, 4)}


def decide(
    sickness: Sickness, dataset: str, value: object, sick: Sequence[Outcome], twin: Sequence[Outcome]
) -> dict[str, Any]:
    """The group's record by twin rule and oracle; `reason` is empty where it is kept."""
    own = [_own_severity(s, t) for s, t in zip(sick, twin, strict=True)]
    severity = sorted(own, reverse=True)[NUM_AGREEING - 1]
    seen = sum(sickness.oracle(s.evidence, t.evidence) for s, t in zip(sick, twin, strict=True))
    reason = ""
    if not severity:
        reason = "twin rule: the twin is not better in three of four seeds"
    elif seen < NUM_AGREEING:
        reason = f"oracle: the mechanism was seen in {seen} of {len(own)} seeds"
    return {
        "sickness": sickness.code,
        "dataset": dataset,
        "value": value,
        "severity": severity,
        "reason": reason,
        "seeds": [seed_record(seed, s, t, severity) for seed, s, t in zip(SEEDS, sick, twin, strict=True)],
        "evidence": {name: _short(number) for name, number in asdict(sick[0].evidence).items()},
    }


def _short(number: float) -> float | bool | str:
    if isinstance(number, bool):
        return number
    return float(f"{number:.3g}") if number - number == 0 else str(number)


def decide_ladder(ladder: tuple[str, str]) -> list[dict[str, Any]]:
    """Decide one (sickness, data set): climb the knob's values until the sickness is terminal.

    Two seeds go first: the third best of four severities is never above the better of any two, so a value at which
    neither is sick, or at which both are at most as sick as a milder value, needs no further training.
    """
    code, dataset = ladder
    sickness = BY_CODE[code]
    records: list[dict[str, Any]] = []
    reached = 0
    for value in sickness.values:
        first = max(_severity_at(sickness, dataset, value, seed) for seed in SEEDS[::2])
        if first <= reached:
            why = (
                "repeated: a milder value is as severe" if reached else "twin rule: the twin is not better in two seeds"
            )
            records.append(_dropped(sickness, dataset, value, first, why))
            if reached and len(records) > 1 and records[-2]["reason"] == why:
                break
            continue
        sick = [outcome(sickness.sick(dataset, seed, value)) for seed in SEEDS]
        twin = [outcome(sickness.twin(dataset, seed, value)) for seed in SEEDS]
        record = decide(sickness, dataset, value, sick, twin)
        if not record["reason"] and record["severity"] <= reached:
            record["reason"] = "repeated: a milder value is as severe"
        if not record["reason"]:
            reached = record["severity"]
            _find_causes(record, sickness, sick, twin)
        records.append(record)
        if reached == len(SEVERITY_POINTS) or _is_at_chance(sick, dataset):
            break
    return records


def _is_at_chance(found: Sequence[Outcome], dataset: str) -> bool:
    """True if no training of these does better than naming the commonest class: it cannot get worse."""
    target = load_data(Recipe(dataset=dataset)).test_y
    if target.is_floating_point():
        return all(each.score <= CHANCE_MARGIN for each in found)
    commonest = target.bincount().max().item() / len(target)
    return all(each.score <= commonest + CHANCE_MARGIN for each in found)


def _severity_at(sickness: Sickness, dataset: str, value: object, seed: int) -> int:
    return _own_severity(outcome(sickness.sick(dataset, seed, value)), outcome(sickness.twin(dataset, seed, value)))


def _dropped(sickness: Sickness, dataset: str, value: object, severity: int, reason: str) -> dict[str, Any]:
    return {
        "sickness": sickness.code,
        "dataset": dataset,
        "value": value,
        "severity": severity,
        "reason": reason,
        "seeds": [],
    }


def _find_causes(record: dict[str, Any], sickness: Sickness, sick: Sequence[Outcome], twin: Sequence[Outcome]) -> None:
    """Fill in the undos that work on their own, and with them the families that are right answers."""
    record["cures"] = []
    record["accepted"] = [sickness.family, *sickness.also]
    for undo in UNDOS:
        if undo.family not in record["accepted"] and _restores(undo, record, sickness, sick, twin):
            record["cures"].append(undo.name)
            record["accepted"].append(undo.family)


def _restores(
    undo: Undo, record: dict[str, Any], sickness: Sickness, sick: Sequence[Outcome], twin: Sequence[Outcome]
) -> bool:
    """True if the undo alone gives back 80% of the gap on both seeds that it is tried on."""
    for seed in UNDO_SEEDS:
        recipe = sickness.sick(record["dataset"], seed, record["value"])
        undone = undo.change(recipe)
        if undone == recipe or not undo.fits(sick[seed].evidence):
            return False
        gap = twin[seed].score - sick[seed].score
        if gap <= 0 or outcome(undone).score - sick[seed].score < RESTORED_SHARE * gap:
            return False
    return True


def ladders(only: str | None = None) -> list[tuple[str, str]]:
    """Every (code of a sickness, data set), or those of one sickness or family."""
    return [(s.code, dataset) for s in SICKNESSES if only in (None, s.code, s.family) for dataset in s.datasets]


def _undos_for(recipe: Recipe) -> tuple[Undo, ...]:
    return tuple(undo for undo in CONTROL_UNDOS if undo.change(recipe) != recipe)


def _plain(recipe: Recipe) -> Recipe:
    return replace(
        Recipe(), dataset=recipe.dataset, seed=recipe.seed, lr=0.02 if recipe.dataset == "raw_blobs" else 0.05
    )


def decide_control(wanted: tuple[str, str]) -> dict[str, Any]:
    """Decide one (control, data set)."""
    name, dataset = wanted
    control = next(c for c in CONTROLS if c.name == name)
    recipes = [control.at(dataset, seed) for seed in SEEDS]
    found = [outcome(recipe) for recipe in recipes]
    gains = {}
    for undo in _undos_for(recipes[0]):
        gains[undo.name] = _points_gained(undo, recipes, found)
    best = max(gains, key=lambda undo: gains[undo], default="")
    behind = _points_behind_plain(recipes, found)
    reason = ""
    if gains and gains[best] >= HEALTHY_POINTS:
        reason = f"undo rule: {best} gains {gains[best]:.1f} points"
    elif behind > REFERENCE_POINTS:
        reason = f"the plain network is {behind:.1f} points better"
    elif not all(each.evidence.is_finite for each in found):
        reason = "not finite"
    return {
        "control": name,
        "dataset": dataset,
        "reason": reason,
        "scores": [round(each.score, 4) for each in found],
        "best_undo": best,
        "gain_points": round(gains.get(best, 0.0), 2),
    }


def _points_gained(undo: Undo, recipes: Sequence[Recipe], found: Sequence[Outcome]) -> float:
    """Points that the undo gains: of the first seed if that is little, else the mean over both."""
    gains: list[float] = []
    for seed in UNDO_SEEDS:
        gains.append(100 * (outcome(undo.change(recipes[seed])).score - found[seed].score))
        if gains[0] < HEALTHY_POINTS / 2:
            break
    return _mean(gains)


def _points_behind_plain(recipes: Sequence[Recipe], found: Sequence[Outcome]) -> float:
    if recipes[0].network not in ("mlp", "tied") or recipes[0].loss in ("mse", "huber", "bce"):
        return 0.0
    plain = [outcome(_plain(recipes[seed])).score for seed in UNDO_SEEDS]
    return 100 * (_mean(plain) - _mean(found[seed].score for seed in UNDO_SEEDS))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def read(path: Path = TRUTH_FILE) -> dict[str, Any]:
    """The decisions as they were written."""
    return json.loads(path.read_text()) if path.exists() else {"groups": [], "controls": []}


def save(truth: dict[str, Any], path: Path = TRUTH_FILE) -> None:
    """Write the decisions, one group or control a line."""
    parts = [f'"{key}": [\n' + ",\n".join(json.dumps(r) for r in truth[key]) + "\n]" for key in ("groups", "controls")]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def load(path: Path = TRUTH_FILE) -> dict[str, Any]:
    """The committed decisions, groups whose twin is itself unwell left out."""
    truth = read(path)
    leave_out_sick_twins(truth["groups"])
    return truth


def leave_out_sick_twins(groups: Sequence[dict[str, Any]]) -> None:
    """Give a reason to groups whose twins lie far below the best twins that the same rows allow.

    A tanh network of ten layers is unwell on circles whatever its weights: being better than its sick version
    makes it no picture of health.
    """
    deciding = slice(len(SEEDS))  # seeds that were added later decide nothing
    kept = [(g, _mean(seed["twin"] for seed in g["seeds"][deciding])) for g in groups if not g["reason"]]
    best: dict[str, float] = {}
    for group, score in kept:
        best[group["dataset"]] = max(score, best.get(group["dataset"], 0.0))
    for group, score in kept:
        behind = 100 * (best[group["dataset"]] - score)
        if behind > REFERENCE_POINTS:
            group["reason"] = f"sick twin: {behind:.0f} points below the best twin on these rows"


def update(jobs: int, only: str | None = None, *, missing: bool = False) -> None:
    """Decide one sickness, one family, one control (`only`) or everything; each decision is written as it falls.

    Args:
        jobs: Processes.
        only: What to decide.
        missing: True leaves alone what has been decided before. All of it takes about an hour of one core.
    """
    truth = read()
    known = {(g["sickness"], g["dataset"]) for g in truth["groups"]} if missing else set()
    known |= {(c["control"], c["dataset"]) for c in truth["controls"]} if missing else set()

    def keep(records: list[dict[str, Any]]) -> None:
        new = {_key(record) for record in records}
        kind = "groups" if "sickness" in records[0] else "controls"
        truth[kind] = [r for r in truth[kind] if _key(r) not in new] + records
        truth[kind].sort(key=lambda record: ORDER[_key(record)])
        save(truth)

    controls = [(c.name, dataset) for c in CONTROLS if only in (None, c.name, "controls") for dataset in c.datasets]
    wanted = [key for key in (*ladders(only), *controls) if key not in known]
    wanted.sort(key=lambda key: (PRIORITY.get(key[1], 2), key[0] in BY_CODE))  # what matters most first
    parallel.map_unique(decide_key, wanted, jobs, "ground truth", keep)


def decide_key(key: tuple[str, str]) -> list[dict[str, Any]]:
    """Decide a (sickness, data set) or a (control, data set)."""
    return decide_ladder(key) if key[0] in BY_CODE else [decide_control(key)]


def _key(record: dict[str, Any]) -> tuple[str, str]:
    return record.get("sickness") or record["control"], record["dataset"]


ORDER = {
    key: position
    for position, key in enumerate(
        [*ladders(), *((control.name, dataset) for control in CONTROLS for dataset in control.datasets)]
    )
}
