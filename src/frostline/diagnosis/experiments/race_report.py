"""What is said of a race: why treatments were kept or rolled back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from frostline.core.records import Healing, Treatment
from frostline.diagnosis.experiments.runner import loss_of, suspicions_of
from frostline.diagnosis.experiments.schedule import AHEAD
from frostline.diagnosis.rules.judge import all_of, diagnosis_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.core.records import Diagnosis
    from frostline.diagnosis.experiments.marks import Verdict
    from frostline.diagnosis.experiments.race import Race
    from frostline.diagnosis.experiments.race_verdict import RaceVerdict
    from frostline.diagnosis.experiments.runner import Runner
    from frostline.diagnosis.experiments.schedule import Schedule
    from frostline.diagnosis.experiments.score import Score

UNSEEN = frozenset({"input_scale", "batchnorm"})  # what a look at the steps alone cannot judge


def cannot_be_done(error: BaseException) -> str:
    """Of a treatment that the network or its loss cannot take."""
    return f"this treatment cannot be applied here: {type(error).__name__}: {error}"


def is_no_better(steps: int) -> str:
    """Of one that fell behind the untreated network."""
    return f"not clearly better than without treatment after {steps} steps"


def is_behind_another(steps: int) -> str:
    """Of one whose place another treatment has taken."""
    return f"another treatment was ahead after {steps} steps"


def has_issues(codes: Sequence[str]) -> str:
    """Of one that was ahead, but not well."""
    return f"{', '.join(codes)} was still found, or is new"


def what_lacks(one: Runner, untreated: Runner, verdict: RaceVerdict, schedule: Schedule) -> str:
    """Why a treatment that is still in the race when it ends has not won."""
    if not math.isfinite(one.loss):
        return "the loss with it is not finite"
    if one.suspicion is not None and not verdict.has_symptom(one.suspicion):
        return "no rule has found the symptom that it treats"
    if AHEAD * schedule.taken(one.steps) > schedule.taken(schedule.end) and one.loss < loss_of(untreated.score):
        return "the batches end before it differs from a faster start: pass more of them"
    return "its lead is too small to be reliable"


def treatment_record(one: Runner, race: Race, *, is_kept: bool) -> Treatment:
    """A treatment of a race, and why it was kept or rolled back, with the numbers."""
    assert one.suspicion is not None  # of all but the untreated one
    untreated_scores = race.untreated.runner.scores
    mark, numbers = max(one.scores.keys() & untreated_scores.keys(), default=0), ""
    if mark:
        untreated = untreated_scores[mark].loss
        steps = race.schedule.taken(mark)
        numbers = f"held-out loss {one.scores[mark].loss:.3g} against {untreated:.3g} untreated after {steps} steps"
    if is_kept:
        is_judged = one.suspicion.family not in UNSEEN
        why = f"kept: {numbers}{'; the rules find no such issue any more' if is_judged else ''}."
    else:
        why = f"rolled back: {'; '.join(filter(None, (numbers, one.failure)))}."
    return Treatment(one.suspicion.name, one.suspicion.family, is_kept, one.score.loss, one.issues, why)


def skips_record(num_skipped: int, num_steps: int, last: Score) -> Treatment:
    """Steps that were left out because something was not finite, as a treatment."""
    why = f"{num_skipped} of {num_steps} steps were left out."
    is_kept = num_skipped < num_steps / 2  # else hardly anything was trained
    return Treatment("leave out steps that are not finite", "nonfinite", is_kept, last.loss, (), why)


def healing_of(
    races: list[tuple[Race, Runner]],
    after: Diagnosis,
    scores: tuple[Score, Score],
    num_skipped: int,
    num_steps: int,
    verdict: Verdict,
    kept: Sequence[Runner],
) -> Healing:
    """The course of a healing.

    Args:
        races: Each with its winner.
        after: What the rules say about the last steps.
        scores: Without treatment, and of the last state, by samples that no decision used.
        num_skipped: Steps that were left out because something was not finite.
        num_steps: All steps.
        verdict: On the last state.
        kept: The winners whose treatments the model was given.
    """
    before, last = scores
    known = {id(one) for one in kept}
    for _, winner in races:
        if winner.suspicion is not None and id(winner) not in known:
            winner.failure = "it broke down later, and the network does as well without"
    treatments = [treatment_record(one, race, is_kept=id(one) in known) for race, _ in races for one in race.runners]
    is_listed = any(treatment.kept and treatment.family == "nonfinite" for treatment in treatments)
    treatments += [skips_record(num_skipped, num_steps, last)] if num_skipped and not is_listed else []
    first, best = next(((race, winner) for race, winner in races if winner.suspicion is not None), races[0])
    causes = [one.family for one in suspicions_of(kept)]
    certain = first.seen.certain_cause
    causes += [certain] if certain is not None else ["nonfinite"] if num_skipped else []
    seen = best.seen or first.seen.diagnosis
    return Healing(
        accepted=verdict.is_good and any(treatment.kept for treatment in treatments),
        treatments=tuple(treatments),
        before=diagnosis_of(all_of(seen), causes[0] if causes else None),
        after=after,
        loss_before=before.loss,
        loss_after=last.loss,
        verdict=verdict.why,
    )
