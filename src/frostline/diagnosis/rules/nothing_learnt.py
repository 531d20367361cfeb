"""FL404: a network that answers held-out samples no better than with one answer for all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.learning_rate_low import FEWEST_EPOCHS
from frostline.diagnosis.rules.reading import loss_levels

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL404", "nothing is learnt", "learning_rate",
    "check that every input still belongs to its target: shuffle both together, or neither. Then train on one batch "
    "alone, without dropout and weight decay: a network that cannot learn it by heart is broken (a detach, a wrong "
    "axis, layers that are not in the optimizer); one that can lacks steps, size, or inputs that tell the targets, or "
    "is held back by dropout, weight decay or rare classes.",
    8,
)  # fmt: skip
_LONGER = "look again after three epochs or more: healthy networks may need as many."
SKILLED = 0.1  # of the loss of one answer for all: a network that saves so much learns
# Shuffled labels save up to 0.04 by luck, of 64 held-out samples; soft labels at their entropy, of 200 classes, 0.07.
_NONE, _SOME = 0.005, 0.05
_FAR = 4.0  # times what the last losses scatter
TIME = 45  # steps, after which a network that learns nothing is stuck


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """What the model does better, on samples that it was not trained on, than one answer for all."""
    skill, steps = evidence.skill, len(evidence.losses)
    if skill is None:
        return (ABOUT.not_judged("what one answer for all samples would cost is not known (`checkup` asks)."),)
    if skill > SKILLED:
        return (ABOUT.passed(f"held-out samples are answered {skill:.0%} better than by one answer.", skill, SKILLED),)
    if steps < TIME:
        few = f"{steps} steps are too few to say that a network cannot learn ({TIME} are asked)"
        return (ABOUT.not_judged(f"{few}: it has learnt nothing yet."),)
    fall = _fall(evidence)
    if skill > _SOME and fall is not None:
        first, last = fall
        why = f"held-out samples are answered {skill:.0%} better than by one answer, and the training loss fell from "
        return (ABOUT.passed(f"{why}{first:.3g} to {last:.3g}: what is left of it may be its floor.", skill, SKILLED),)
    why = f"after {steps} steps, held-out samples are answered no better than with one answer for all of them."
    if skill > _NONE:
        why = f"after {steps} steps, at most {skill:.0%} of the loss of one answer for all held-out samples is saved."
    found = ABOUT.tip(why, skill, SKILLED)
    if evidence.epochs is not None and evidence.epochs < FEWEST_EPOCHS:
        advice = f"{_LONGER} If it still learns nothing then: {found.advice}"
        found = replace(found, why=f"{why} That is too short a training to say more.", advice=advice)
    return (found,)


def _fall(evidence: Evidence) -> tuple[float, float] | None:
    """(first, last) training loss, if it fell by far more than it scatters; a loss may not reach zero (soft labels)."""
    levels = loss_levels(evidence)
    if levels is None:
        return None
    first, _, last, noise = levels
    return (first, last) if first - last > _FAR * noise else None
