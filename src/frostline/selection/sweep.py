"""Trains many heads in one pass over the same rows, epoch by epoch, and keeps the best state of each."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from frostline.core.errors import DataError
from frostline.core.records import Epoch
from frostline.selection.head_settings import HeadSetting
from frostline.selection.heads.contract import Heads
from frostline.selection.rungs import rungs, survivors


class Rows(Protocol):
    """Batches of (features, target); a pass over them is an epoch."""

    epoch: int

    def __iter__(self) -> Any: ...

    def __len__(self) -> int: ...


class Judge(Protocol):
    """Takes the outputs of one head over a validation, and gives its metrics."""

    def add(self, output: Any, target: Any) -> None:
        """Take a batch."""
        ...

    def result(self) -> dict[str, float]:
        """The metrics by name; the first one ranks the heads, higher is better."""
        ...


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is made of, beside heads and rows.

    Attributes:
        epochs: Passes over the training rows.
        factor: Of successive halving; None trains every head to the end.
        counted: callable(target) -> how much a batch counts in means of losses.
        make_judge: Makes what gives the metrics of one head.
        progress: Show one line per epoch and a bar, on standard error.
    """

    epochs: int
    factor: int | None
    counted: Callable[[Any], int]
    make_judge: Callable[[], Judge]
    progress: bool


@dataclass
class HeadCourse:
    """The course of one head over the epochs.

    Attributes:
        setting: Of the head.
        way: How it was computed: `flat`, `stacked`, `looped` or `closed form`.
        history: One record for each epoch.
        best_epoch: Of its best validation, counted from 1; 0 before the first.
        score: Of that epoch; higher is better.
        state: Its weights and buffers of that epoch.
        outcome: `trained`, `stopped` (by halving), `diverged` or `solved`.
    """

    setting: HeadSetting
    way: str
    history: list[Epoch] = field(default_factory=list[Epoch])
    best_epoch: int = 0
    score: float = -math.inf
    state: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    outcome: str = "trained"

    @property
    def rank_key(self) -> tuple[bool, float, float, int]:
        """Smaller is better: the score, then the validation loss of that epoch, then the order of the settings."""
        if self.outcome == "diverged" or not self.best_epoch:
            return True, 0.0, 0.0, self.setting.number
        loss = self.history[self.best_epoch - 1].val_loss
        return False, -self.score, math.inf if loss is None else loss, self.setting.number


def run_sweep(
    families: Sequence[Heads], train: Rows, val: Rows, plan: SweepPlan, solved: Mapping[int, tuple[Heads, float]] = {}
) -> list[HeadCourse]:  # fmt: skip
    """Train all heads on the same batches in the same order.

    Args:
        families: The heads; those of one family are computed together.
        solved: Single heads that are not trained, and their mean losses over the training rows, by number.
        train: Training rows.
        val: Validation rows.
        plan: The rest.

    Returns:
        The course of every head, in the order of the settings.
    """
    courses = {one.number: HeadCourse(one, heads.way) for heads in families for one in heads.settings}
    stops = rungs(len(courses), plan.epochs, plan.factor) if plan.factor is not None else ()
    alive = list(families)
    for number, (heads, loss) in solved.items():
        courses[number] = _judged(heads, loss, val, plan)
    for epoch in range(1, plan.epochs + 1):
        if not alive:
            break
        started = time.perf_counter()
        train.epoch = epoch - 1
        trained = _train_epoch(alive, _shown(train, epoch, plan), plan)
        judged = _validate(alive, val, plan)
        elapsed_s = time.perf_counter() - started
        for number, loss in trained.items():
            _note(courses[number], epoch, loss, judged[number], elapsed_s, alive)
        dropped = [number for number in trained if courses[number].outcome == "diverged"]
        if plan.factor is not None and epoch in stops:
            scores = {number: courses[number].score for number in trained if number not in dropped}
            stopped = set(scores) - set(survivors(scores, plan.factor))
            for number in stopped:
                courses[number].outcome = "stopped"
            dropped += sorted(stopped)
        alive = _kept(alive, dropped)
        if plan.progress:
            _tell(epoch, plan, list(courses.values()), elapsed_s)
    return [courses[number] for number in sorted(courses)]


def _judged(heads: Heads, loss: float, val: Rows, plan: SweepPlan) -> HeadCourse:
    """The course of a head that was solved: one record, as of an epoch."""
    started = time.perf_counter()
    course = HeadCourse(heads.settings[0], "closed form")
    judged = _validate([heads], val, plan)[course.setting.number]
    _note(course, 1, loss, judged, time.perf_counter() - started, [heads])
    course.outcome = "solved" if course.outcome == "trained" else course.outcome
    return course


def _train_epoch(families: Sequence[Heads], data: Iterable[Any], plan: SweepPlan) -> dict[int, float]:
    """The mean loss of every head over the samples that count."""
    totals: list[Tensor | None] = [None for _ in families]
    count = 0
    for features, target in data:
        size = plan.counted(target)
        if size == 0:
            continue  # every label of the batch is ignored: it has no loss
        for at, heads in enumerate(families):
            losses_K = heads.step(features, target).double() * size
            before = totals[at]
            totals[at] = losses_K if before is None else before + losses_K
        count += size
    return _means(families, totals, count, "training")


def _validate(
    families: Sequence[Heads], data: Rows, plan: SweepPlan
) -> dict[int, tuple[float, dict[str, float]]]:  # fmt: skip
    """(mean loss, metrics) of every head."""
    totals: list[Tensor | None] = [None for _ in families]
    judges = [[plan.make_judge() for _ in heads.settings] for heads in families]
    count = 0
    for features, target in data:
        size = plan.counted(target)
        if size == 0:
            continue
        for at, heads in enumerate(families):
            losses_K, outputs = heads.evaluate(features, target)
            before = totals[at]
            totals[at] = losses_K.double() * size if before is None else before + losses_K.double() * size
            with torch.no_grad():
                for judge, output in zip(judges[at], outputs, strict=True):
                    judge.add(output, target)
        count += size
    means = _means(families, totals, count, "validation")
    scores = {
        number: judge.result() if math.isfinite(means[number]) else {}
        for heads, own in zip(families, judges, strict=True) for number, judge in zip(heads.numbers, own, strict=True)
    }  # fmt: skip
    return {number: (means[number], scores[number]) for number in means}


def _means(families: Sequence[Heads], totals: Sequence[Tensor | None], count: int, kind: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for heads, total_K in zip(families, totals, strict=True):
        if total_K is None:
            raise DataError(
                what=f"No row of the {kind} rows has a label.", where="sweep(data)", received="ignored labels only",
                do="check the labels: -100 stands for 'no label here'.",
            )  # fmt: skip
        found |= dict(zip(heads.numbers, (total_K / count).tolist(), strict=True))
    return found


def _note(
    course: HeadCourse, epoch: int, train_loss: float, judged: tuple[float, dict[str, float]], elapsed_s: float,
    families: Sequence[Heads],
) -> None:  # fmt: skip
    val_loss, scores = judged
    metric = next(iter(scores.values()), None)
    lr = course.setting.lr
    course.history.append(Epoch(epoch, train_loss, val_loss, metric, lr, elapsed_s, scores or None))
    score = metric if metric is not None else -val_loss
    if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
        course.outcome, course.state = "diverged", {}
    elif not math.isfinite(score):
        raise DataError(
            what=f"The metric {next(iter(scores))!r} is not finite on the validation rows.",
            where="sweep(metric=...)", received=f"{score}; the validation loss is {val_loss:g}",
            do="pass validation rows that have all classes (val=...), or another metric.",
        )  # fmt: skip
    elif score > course.score:
        heads = next(one for one in families if course.setting.number in one.numbers)
        course.score, course.best_epoch = score, epoch
        course.state = heads.state(heads.numbers.index(course.setting.number))


def _kept(families: Sequence[Heads], dropped: Sequence[int]) -> list[Heads]:
    found: list[Heads] = []
    for heads in families:
        places = [at for at, number in enumerate(heads.numbers) if number not in dropped]
        if places and len(places) < len(heads.numbers):
            heads.keep(places)
        found += [heads] if places else []
    return found


def _shown(data: Rows, epoch: int, plan: SweepPlan) -> Iterable[Any]:
    if not plan.progress or not sys.stderr.isatty():
        return data
    from rich.console import Console
    from rich.progress import track

    return track(data, f"Epoch {epoch}", total=len(data), console=Console(stderr=True), transient=True)


def _tell(epoch: int, plan: SweepPlan, courses: Sequence[HeadCourse], elapsed_s: float) -> None:
    best = min(courses, key=lambda course: course.rank_key)
    trained = sum(len(course.history) == epoch and course.outcome != "solved" for course in courses)
    sys.stderr.write(
        f"epoch {epoch}/{plan.epochs}  {trained} heads  best #{best.setting.number} ({best.setting}) "
        f"{best.score:.4f}  {elapsed_s:.2f} s\n"
    )
