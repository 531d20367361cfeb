"""Heal: try treatments from one snapshot on the same batches, keep one that proves itself, go on training.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import batch_size
from frostline.core.layers import default_dtype_of
from frostline.core.restore import default_dtype, kept_generators, kept_gradients
from frostline.core.steps import is_optimizer
from frostline.diagnosis import Patient, Score, score
from frostline.diagnosis.experiments import as_batches, check_given, merged, takes_fewer_rows, three_parts, usual_rows
from frostline.diagnosis.experiments.marks import BestMark, Verdict, falls_below, verdict_of
from frostline.diagnosis.experiments.race import Race
from frostline.diagnosis.experiments.race_report import healing_of
from frostline.diagnosis.experiments.relapse import LAST, finish, go_on
from frostline.diagnosis.experiments.runner import Runner, families_of, suspicions_of, take_over, watched
from frostline.diagnosis.experiments.schedule import WATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis, Healing
    from frostline.diagnosis.experiments import Batch

_LEG, _FEWEST_STEPS = 0.05, 15  # from one comparison to the next: of the batches, and at least
_LEGS = 6  # in which a treatment must have got ahead
_MOST_RACES = 3
_MOST_JUDGED, _ROWS_JUDGED = 20, 500  # held-out batches that runners are compared by; more of them if they are small


@public("heal")
def heal(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor], optimizer: Optimizer
) -> Healing:
    """Train a network, and treat it on the way if it does not train well.

    A copy is trained on the first batches under watch. If rules find symptoms, or it learns nothing, treatments join
    in from the same start on the same batches, in the order that the evidence suggests. One is kept if it does better
    on held-out samples than the untreated network after twice the steps, and the issue that it treats is gone; beside
    a network that learns, no new one may have come. Beside a network that learns nothing, less is required
    (`docs/health.md`). The others are rolled back: they never touched your model. Training goes on to the last batch,
    and is scored on the way; if it breaks down later, it is taken back to before that, and treated there. A
    network that does as well without is trained as it is.

    The verdict is on the state at the end, by samples that no decision used: a quarter of the held-out ones, or, where
    epochs repeat their rows, a tenth of all rows, which are taken out of the batches. A treated network that has fallen
    below its best mark is taken back to it. One that broke down, learns nothing or has steps that are not finite is not
    accepted, and is given back untreated if it does as well without. Where a finding names a line of your loop, loss or
    data, no treatment is tried, and the model is trained as it is.

    On return the model and the optimizer, changed in place, have trained once on the first four fifths of the batches
    and can go on: a cure for inputs is a layer of the model, a threshold for gradients a hook on the optimizer's step.

    Args:
        model: Trained in place.
        batches: A finite iterable of `(inputs, target)`, kept in memory; the last fifth is held out.
        loss_fn: callable(output, target) -> scalar. A loss that does not fit is named, and left to you.
        optimizer: Over the model's parameters; its learning rate and momentum may be changed.

    Returns:
        What was tried, kept and rolled back, with the diagnosis before and after.

    Raises:
        DataError: As `checkup`.
    """
    check_given(model, batches, loss_fn, "heal")
    if not is_optimizer(optimizer):
        raise DataError(
            what="Healing changes the optimizer that training goes on with, and got none.", where="heal(optimizer=...)",
            received=type(optimizer).__name__ if not isinstance(optimizer, type) else f"the class {optimizer.__name__}",
            do="make it first, optimizer = torch.optim.AdamW(model.parameters()), and pass it.",
        )  # fmt: skip
    with default_dtype(default_dtype_of(model)):  # what is made on the way fits the model, whatever the caller makes
        return _heal(model, batches, loss_fn, optimizer)


def _heal(
    model: nn.Module, batches: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor], optimizer: Optimizer
) -> Healing:  # fmt: skip
    with kept_generators():  # a loader that shuffles draws
        data = as_batches(batches, model, None)
    many = max(_MOST_JUDGED, -(-_ROWS_JUDGED // max(1, batch_size(data[0][0]))))
    parts = three_parts(data, divides=takes_fewer_rows(model, data[0], loss_fn))
    rest, kept_back = parts.trained, (parts.decides, parts.fresh)
    judged, fresh = (merged(model, usual_rows(part[:many]), loss_fn) if part else [] for part in kept_back)
    leg = min(max(_FEWEST_STEPS, round(_LEG * len(data))), max(1, len(rest) - WATCHED))
    own = Patient(model, optimizer)
    with kept_gradients(model):
        mark = BestMark(judged, loss_fn)
        best, races, before = _run_races(own, rest, judged, fresh or judged, loss_fn, leg, mark)
        kept = [winner for _, winner in races if winner.suspicion is not None]
        end = _end(best, kept, rest, fresh or judged, loss_fn, mark, races[0][0].seen.seen.first_loss)
        plain = _plain(own, rest, judged, leg, loss_fn, mark) if kept and not end.verdict.is_good else None
        if plain is not None:  # the treatment did no good in the end
            kept = []
            first_loss = races[0][0].seen.seen.first_loss
            end = _end(plain, kept, rest, fresh or judged, loss_fn, BestMark(judged, loss_fn), first_loss)
    num_skipped = sum({id(one): one.num_skipped for one in (*(winner for _, winner in races), end.best)}.values())
    take_over(own, end.best, kept, skips=num_skipped > 0)
    verdict = replace(end.verdict, why=f"{end.verdict.why}; {_by_what(fresh, is_apart=parts.is_apart)}.")
    return healing_of(races, end.after, (before, end.score), num_skipped, len(rest), verdict, kept)


@dataclass(frozen=True)
class _End:
    """Where a training ended: the runner, its score by samples that no decision used, and what is said of it."""

    best: Runner
    score: Score
    verdict: Verdict
    after: Diagnosis


def _end(
    best: Runner, kept: Sequence[Runner], rest: Sequence[Batch], fresh: Sequence[Batch],
    loss_fn: Callable[[Any, Any], Tensor], mark: BestMark, first_loss: float,
) -> _End:  # fmt: skip
    """Train the last steps, judge the state that they lead to, and take it back to the best mark if that is better."""
    after, num_broken = finish(best, rest, kept, loss_fn)
    last = _score(best.patient, fresh, loss_fn)
    peak = _score(mark.patient, fresh, loss_fn) if mark.patient is not None else None
    verdict = verdict_of(last, peak, num_broken=num_broken, first_loss=first_loss)
    if mark.patient is None or peak is None or not mark.is_better_than(best.patient, first_loss):
        return _End(best, last, verdict, after)
    best.patient = mark.patient
    twin = Runner(best.patient.copy(), steps=mark.steps)  # the rules look at what it does next
    after = watched(twin, rest[mark.steps :][:LAST], loss_fn, samples=2, families=families_of(kept))
    return _End(best, peak, verdict.of_best_mark(peak, last, first_loss, mark.steps), after)


def _plain(
    own: Patient, rest: Sequence[Batch], judged: Sequence[Batch], leg: int, loss_fn: Callable[[Any, Any], Tensor],
    mark: BestMark,
) -> Runner | None:  # fmt: skip
    """The network trained without treatment up to its last steps; None if it does worse than the best mark."""
    plain, unused = Runner(own.copy()), BestMark(judged, loss_fn)
    go_on(plain, rest, leg, loss_fn, unused, (), goes_to_the_end=True)
    reached = _score(plain.patient, judged, loss_fn)
    is_worse = mark.score is not None and falls_below(reached, mark.score)
    return None if is_worse or not math.isfinite(reached.loss) else plain


def _score(patient: Patient, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]) -> Score:
    return score(patient.model, data, loss_fn, compares=True)


def _by_what(fresh: Sequence[Batch], *, is_apart: bool) -> str:
    """What the verdict is made by, as half a sentence."""
    if not fresh:
        return "decisions used the same samples, since none could be taken out of these batches"
    count = sum(batch_size(inputs) for inputs, _ in fresh)
    if not is_apart:
        return f"judged by {count} samples that no decision used, whose inputs are among the others as well"
    return f"judged by {count} samples that no decision used"


def _run_races(
    own: Patient, rest: Sequence[Batch], judged: Sequence[Batch], fresh: Sequence[Batch],
    loss_fn: Callable[[Any, Any], Tensor], leg: int, mark: BestMark,
) -> tuple[Runner, list[tuple[Race, Runner]], Score]:  # fmt: skip
    """(the runner of the last steps, each race with its winner, the score without treatment).

    There is one more race wherever the winner breaks down.
    """
    races: list[tuple[Race, Runner]] = []
    before: Score | None = None
    state, steps = own, 0
    for _ in range(_MOST_RACES):
        kept = suspicions_of(winner for _, winner in races)
        race = Race(state, rest, judged, loss_fn, start=steps, leg=leg, legs=_LEGS, kept=kept)
        best = race.run()
        if before is None or all(winner.suspicion is None for _, winner in races):  # of the first that treats
            before = _score(race.untreated.runner.patient, fresh, loss_fn)
        race.forget(best)
        races.append((race, best))
        kept += [best.suspicion] if best.suspicion is not None else []
        relapse = go_on(best, rest, leg, loss_fn, mark, kept)
        if relapse is None:
            return best, races, before
        is_new = relapse[1] > steps
        state, steps = relapse
        if not is_new:  # it broke down where this race began: another would be the same
            break
    best = Runner(state, steps=steps)
    go_on(best, rest, leg, loss_fn, mark, suspicions_of(winner for _, winner in races), goes_to_the_end=True)
    assert before is not None  # there was a race
    return best, races, before
