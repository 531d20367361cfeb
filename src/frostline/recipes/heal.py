"""Heal: try treatments from one snapshot on the same batches, keep one that proves itself, go on training.

Read top to bottom; copy it where your treatments differ.
"""

from __future__ import annotations

import math
from statistics import median, pstdev
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import are_finite, batch_size
from frostline.core.layers import default_dtype_of
from frostline.core.records import Healing
from frostline.core.restore import default_dtype, kept_generators, kept_gradients
from frostline.core.steps import is_optimizer
from frostline.diagnosis import Patient, Score, all_of, diagnosis_of, score, train
from frostline.diagnosis.experiments import as_batches, check_given, merged, usual_rows
from frostline.diagnosis.experiments.marks import BestMark, Verdict
from frostline.diagnosis.experiments.race import Race
from frostline.diagnosis.experiments.race_report import skips_told, treatment_told
from frostline.diagnosis.experiments.runner import Runner, watched
from frostline.diagnosis.experiments.schedule import WATCHED
from frostline.remedies import clip_by_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments import Batch, Suspicion

_LEG, _FEWEST_STEPS = 0.05, 15  # from one comparison to the next: of the batches, and at least
_LEGS = 6  # in which a treatment must have got ahead
_MOST_RACES = 3
_MOST_JUDGED, _ROWS_JUDGED = 20, 500  # held-out batches that runners are compared by; more of them if they are small
_SNAPSHOT = 4  # legs, after which a network that trains on is copied
# It has fallen ill: the loss rises by half of what it had fallen, three deviations of its noise, a tenth of itself.
_LOSES, _NOISE, _ROOM = 0.5, 3.0, 0.1
_LAST = 20  # steps in which the rules look at what came of it
_NO_LIMIT = 1e30  # a clip at it does nothing but leave out steps that are not finite


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

    The verdict is on the state at the end. A treated network that has fallen below its best mark is taken back to it;
    one that broke down, learns nothing or has steps that are not finite is not accepted.

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
    count = max(1, len(data) // 5)
    many = max(_MOST_JUDGED, -(-_ROWS_JUDGED // max(1, batch_size(data[0][0]))))
    rest, judged = data[:-count], merged(model, usual_rows(data[-count:][:many]), loss_fn)
    leg = min(max(_FEWEST_STEPS, round(_LEG * len(data))), max(1, len(rest) - WATCHED))
    own = Patient(model, optimizer)
    with kept_gradients(model):
        mark = BestMark(judged, loss_fn)
        best, races = _run_races(own, rest, judged, loss_fn, leg, mark)
        kept = [winner for _, winner in races if winner.suspicion is not None]
        after, num_broken = _finish(best, rest, kept, loss_fn)
        last = score(best.patient.model, judged, loss_fn, compares=True)
        first_loss = races[0][0].seen.seen.first_loss
        verdict = mark.verdict(last, num_broken=num_broken, first_loss=first_loss)
        if verdict.goes_back and mark.patient is not None and mark.score is not None:
            best.patient, last = mark.patient, mark.score
            twin = Runner(best.patient.copy(), steps=mark.steps)  # the rules look at what it does next
            after = watched(twin, rest[mark.steps :][:_LAST], loss_fn, samples=2, families=_families(kept))
    _take_over(own, best, kept)
    num_skipped = sum({id(one): one.num_skipped for one in (*(winner for _, winner in races), best)}.values())
    return _healing(races, after, last, num_skipped, len(rest), verdict)


def _run_races(
    own: Patient, rest: Sequence[Batch], judged: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], leg: int,
    mark: BestMark,
) -> tuple[Runner, list[tuple[Race, Runner]]]:  # fmt: skip
    """(the runner of the last steps, each race with its winner); one more race wherever the winner breaks down."""
    races: list[tuple[Race, Runner]] = []
    state, steps = own, 0
    for _ in range(_MOST_RACES):
        kept = _suspicions(winner for _, winner in races)
        race = Race(state, rest, judged, loss_fn, start=steps, leg=leg, legs=_LEGS, kept=kept)
        best = race.run()
        race.forget(best)
        races.append((race, best))
        kept += [best.suspicion] if best.suspicion is not None else []
        relapse = _go_on(best, rest, leg, loss_fn, mark, kept)
        if relapse is None:
            return best, races
        is_new = relapse[1] > steps
        state, steps = relapse
        if not is_new:  # it broke down where this race began: another would be the same
            break
    best = Runner(state, steps=steps)
    _go_on(best, rest, leg, loss_fn, mark, _suspicions(winner for _, winner in races), goes_to_the_end=True)
    return best, races


def _healing(
    races: list[tuple[Race, Runner]], after: Diagnosis, last: Score, num_skipped: int, num_steps: int, verdict: Verdict
) -> Healing:
    treatments = [treatment_told(one, race, is_kept=one is winner) for race, winner in races for one in race.runners]
    is_told = any(treatment.kept and treatment.family == "nonfinite" for treatment in treatments)
    treatments += [skips_told(num_skipped, num_steps, last)] if num_skipped and not is_told else []
    first, best = next(((race, winner) for race, winner in races if winner.suspicion is not None), races[0])
    causes = [one.family for one in _suspicions(winner for _, winner in races)]
    causes += ["loss_mismatch"] if first.seen.is_misfit else ["nonfinite"] if num_skipped else []
    seen = best.seen or first.seen.diagnosis
    return Healing(
        accepted=verdict.is_good and any(treatment.kept for treatment in treatments),
        treatments=tuple(treatments),
        before=diagnosis_of(all_of(seen), causes[0] if causes else None),
        after=after,
        loss_before=first.untreated.runner.score.loss,
        loss_after=last.loss,
        verdict=verdict.why,
    )


def _suspicions(winners: Iterable[Runner]) -> list[Suspicion]:
    """What they were treated for."""
    return [one.suspicion for one in winners if one.suspicion is not None]


def _go_on(
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
    while best.steps < len(rest) - _LAST:
        before, steps = best.patient.copy(), best.steps
        part = rest[steps : min(steps + _SNAPSHOT * leg, len(rest) - _LAST)]
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


def _finish(
    best: Runner, rest: Sequence[Batch], kept: Sequence[Runner], loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[Diagnosis, int]:
    """Train the last steps; what the rules say about them, and how many broke although their data are finite."""
    part, num_skipped = rest[best.steps :], best.num_skipped
    after = watched(best, part, loss_fn, samples=2, families=_families(kept))
    num_odd = sum(not are_finite(inputs) or not are_finite(target) for inputs, target in part)
    _end_all(best.patient, rest, _suspicions(kept))
    return after, max(0, best.num_skipped - num_skipped - num_odd)


def _end_all(patient: Patient, part: Sequence[Batch], kept: Iterable[Suspicion]) -> None:
    """What treatments leave to be done after training."""
    for one in kept:
        if one.remedy.finish is not None:
            one.remedy.finish(patient, part)


def _families(kept: Sequence[Runner]) -> set[str]:
    return {one.family for one in _suspicions(kept)}


def _take_over(own: Patient, best: Runner, kept: Sequence[Runner]) -> None:
    """Give the caller's own model and optimizer what the chosen copy has become."""
    for one in kept:
        if one.suspicion is not None and one.suspicion.remedy.is_structural:
            one.suspicion.remedy.apply(own, one.given)
    model = best.patient.model
    trained = dict([*model.named_parameters(), *model.named_buffers()])
    with torch.no_grad():
        for name, value in [*own.model.named_parameters(), *own.model.named_buffers()]:
            value.copy_(trained[name])
    own.optimizer.load_state_dict(best.patient.optimizer.state_dict())
    clip = best.patient.clip or (clip_by_norm(_NO_LIMIT) if best.num_skipped else None)
    if clip is not None:

        def limit(one: Optimizer, *_: object) -> None:  # what a hook returns would replace the arguments of the step
            clip([parameter for group in one.param_groups for parameter in group["params"]])

        own.optimizer.register_step_pre_hook(limit)
