"""The exam's cases: sick ones from the ground truth, and healthy controls. A judge sees only what `build` gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import truth as truth_module
from .controls import CONTROLS, SEEDS
from .families import SICKNESSES
from .recipe import Recipe
from .training import Setup, prepare

# Thresholds of a judge may be tuned on these, and on nothing else.
TUNING_DATASETS = frozenset({"blobs", "circles"})
TUNING_SEEDS = frozenset({0, 1})


@dataclass(frozen=True)
class Case:
    """One network in the exam.

    Attributes:
        id: `V1/digits/depth=8/0`, or `sparse_80/digits/0` for a control.
        name: Code of the sickness, or name of the control.
        family: The family it belongs to; None for a healthy one.
        accepted: Families that are right answers, the injected one first.
        severity: 1 (sub-clinical) to 4 (terminal); 0 for a healthy one.
        dataset: Name of the data set.
        seed: Seed of split, order and weights.
        part: `tuning` or `held_out`.
        recipe: The training.
        twin: The same training without the fault; None for a healthy one.
        plain_score: Test score of the training as it is, untreated.
        twin_score: Test score of the twin; of the training itself for a healthy one.
        is_hard: True for a control that a rule of thumb calls sick.
        curable: False where only the user can mend the fault.
        monitor_only: True where a checkup, which runs its own loop, cannot see the fault.
    """

    id: str
    name: str
    family: str | None
    accepted: tuple[str, ...]
    severity: int
    dataset: str
    seed: int
    part: str
    recipe: Recipe
    twin: Recipe | None
    plain_score: float
    twin_score: float
    is_hard: bool = False
    curable: bool = True
    monitor_only: bool = False

    def build(self) -> Setup:
        """The training, ready to start: the same to the bit every time."""
        return prepare(self.recipe)


def part_of(dataset: str, seed: int) -> str:
    """`tuning` for blobs and circles from seeds 0 and 1, else `held_out`."""
    return "tuning" if dataset in TUNING_DATASETS and seed in TUNING_SEEDS else "held_out"


def all_cases(truth: dict[str, Any] | None = None) -> tuple[Case, ...]:
    """Every sick case and every control that ground truth keeps, sick ones first."""
    truth = truth or truth_module.load()
    return (*sick_cases(truth["groups"]), *healthy_cases(truth["controls"]))


def sick_cases(groups: Sequence[dict[str, Any]]) -> tuple[Case, ...]:
    """One case per kept group and seed; a seed of severity 0, whose own gap is under 2 points, is left out."""
    by_code = {sickness.code: sickness for sickness in SICKNESSES}
    found: list[Case] = []
    for group in groups:
        sickness = by_code[group["sickness"]]
        for seed in group["seeds"]:
            if group["reason"] or not seed["severity"]:
                continue
            where = (group["dataset"], seed["seed"], group["value"])
            found.append(
                Case(
                    id=f"{sickness.code}/{group['dataset']}/{sickness.knob}={group['value']}/{seed['seed']}",
                    name=sickness.code,
                    family=sickness.family,
                    accepted=tuple(group["accepted"]),
                    severity=seed["severity"],
                    dataset=group["dataset"],
                    seed=seed["seed"],
                    part=part_of(group["dataset"], seed["seed"]),
                    recipe=sickness.sick(*where),
                    twin=sickness.twin(*where),
                    plain_score=seed["sick"],
                    twin_score=seed["twin"],
                    curable=sickness.curable,
                    monitor_only=sickness.monitor_only,
                )
            )
    return tuple(found)


def healthy_cases(decided: Sequence[dict[str, Any]]) -> tuple[Case, ...]:
    """The seeds of every (control, data set) that is healthy by ground truth.

    A seed that ends far below the best of the four that decide is left out: two of four networks with 80% silent
    units do die.
    """
    by_name = {control.name: control for control in CONTROLS}
    return tuple(
        Case(
            id=f"{record['control']}/{record['dataset']}/{seed}",
            name=record["control"],
            family=None,
            accepted=(),
            severity=0,
            dataset=record["dataset"],
            seed=seed,
            part=part_of(record["dataset"], seed),
            recipe=by_name[record["control"]].at(record["dataset"], seed),
            twin=None,
            plain_score=score,
            twin_score=score,
            is_hard=by_name[record["control"]].is_hard,
        )
        for record in decided
        if not record["reason"]
        for seed, score in enumerate(record["scores"])
        if 100 * (max(record["scores"][: len(SEEDS)]) - score) <= truth_module.REFERENCE_POINTS
    )


def small(cases: Sequence[Case]) -> tuple[Case, ...]:
    """About a tenth: for each family, data set and severity the first, and one control of each name.

    Seeds that were added later are left out, so that the choice stays the same, unless there are no others.
    """
    cases = [case for case in cases if case.seed in SEEDS] or cases
    seen: set[tuple[object, ...]] = set()
    found = []
    for case in cases:
        key = (case.family, case.dataset, min(case.severity, 3)) if case.family else (case.name,)
        if key not in seen:
            seen.add(key)
            found.append(case)
    return tuple(found)
