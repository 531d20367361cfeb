"""Training on after a race: to the end, or to where the network breaks down and has to be treated again."""

from __future__ import annotations

import math
from statistics import median, pstdev
from typing import TYPE_CHECKING, Any

from frostline.core.inputs import are_finite
from frostline.diagnosis.experiments.runner import families_of, suspicions_of, watched
from frostline.diagnosis.experiments.trial import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.examination import Suspicion
    from frostline.diagnosis.experiments.marks import BestMark
    from frostline.diagnosis.experiments.runner import Runner
    from frostline.diagnosis.experiments.trial import Patient

LAST = 20  # steps in which the rules look at what came of it
_SNAPSHOT = 4  # legs, after which a network that trains on is copied
# It has fallen ill: the loss rises by half of what it had fallen, three deviations of its noise, a tenth of itself.
_LOSES, _NOISE, _ROOM = 0.5, 3.0, 0.1


def go_on(
    best: Runner, rest: Sequence[Batch], leg: int, loss_fn: Callable[[Any, Any], Tensor], mark: BestMark,
    kept: Sequence[Suspicion], *, goes_to_the_end: bool = False,
) -> tuple[Patient, int] | None:  # fmt: skip
    """Train on to the last steps; if it breaks down, the patient as it was before that, and its steps.

    A treated network is scored on the way, whatever its losses say; its best mark is kept.

    Args:
        best: Trained in place.
        rest: All batches that are trained on.
        leg: Steps between two marks of a race.
        loss_fn: callable(output, target) -> scalar.
        mark: The best mark so far.
        kept: What it has been treated for.
        goes_to_the_end: True trains on even if it breaks down.
    """
    begun: float | None = None
    level: float | None = None
    if kept:
        mark.look(best.patient, best.steps)
    while best.steps < len(rest) - LAST:
        before, steps = best.patient.copy(), best.steps
        part = rest[steps : min(steps + _SNAPSHOT * leg, len(rest) - LAST)]
        course = train(best.patient, part, loss_fn, seed=steps, measures=False, stops_nonfinite=True)
        if not course.is_whole:  # again, with a look at every step
            best.patient = before.copy()
            course = train(best.patient, part, loss_fn, seed=steps, measures=False, skips_nonfinite=True)
        losses = [loss for loss in course.losses if math.isfinite(loss)]
        few = max(3, len(losses) // 4)
        is_lost = course.num_skipped > len(part) // 2 or len(losses) < 2
        if not is_lost:
            first, final = median(losses[:few]), median(losses[-few:])
            begun = first if begun is None else begun
            level = first if level is None else level
            room = max(_LOSES * (begun - level), _NOISE * pstdev(losses[:few]), _ROOM * abs(level))
            is_lost = final > level + room
            level = final
        if kept:
            _end_all(best.patient, part, kept)
            is_lost |= mark.is_broken_down(mark.look(best.patient, steps + len(part)))
        if is_lost and steps + 2 * leg <= len(rest) and not goes_to_the_end:
            return before, steps
        best.steps, best.num_skipped = steps + len(part), best.num_skipped + course.num_skipped
    return None


def finish(
    best: Runner, rest: Sequence[Batch], kept: Sequence[Runner], loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[Diagnosis, int]:
    """Train the last steps; what the rules say about them, and how many broke although their data are finite."""
    part, num_skipped = rest[best.steps :], best.num_skipped
    after = watched(best, part, loss_fn, samples=2, families=families_of(kept))
    num_odd = sum(not are_finite(inputs) or not are_finite(target) for inputs, target in part)
    _end_all(best.patient, rest, suspicions_of(kept))
    return after, max(0, best.num_skipped - num_skipped - num_odd)


def _end_all(patient: Patient, part: Sequence[Batch], kept: Iterable[Suspicion]) -> None:
    """What treatments leave to be done after training."""
    for one in kept:
        one.finish(patient, part)
