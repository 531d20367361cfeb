"""FL520: targets that the network makes for itself, by weights that train, or by a copy that never follows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS, STEPS_TO_LEARN
from frostline.diagnosis.rules.reading import listed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL520", "targets of the network's own", "targets",
    "let a slow copy make the targets (a target network): copy.deepcopy(model) without gradients, updated every some "
    "hundred steps, or by target.lerp_(weight, 0.01) after each step; and divide the learning rate by 10.",
    7,
)  # fmt: skip
_COPY = (
    "update {copy} from {source} after each step, under torch.no_grad(): for slow, fast in zip({copy}.parameters(), "
    "{source}.parameters()): slow.lerp_(fast, 0.005), or load_state_dict every some hundred steps; look for an update "
    "that is missing, never reached, or made on another copy. If your loop does it, which a checkup does not run, or "
    "if it is a reference that is meant to stay, this is no fault."
)
_RISEN = 2.0  # times the first losses: the last ones of a training that runs away
_ENDS = 5  # losses at each end


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """A copy that stays is a tip; targets that move with the weights count where the loss rises, or stays."""
    facts = evidence.own_targets
    if facts is None:
        return (ABOUT.not_applicable("the loss reads no output without a gradient, and no copy of a trained part."),)
    steps = len(evidence.losses)
    if facts.copy:
        why = (
            f"module {facts.copy!r} began as a copy of {facts.source!r}, and does not train: in {steps} steps "
            f"{facts.source!r} has moved, and {facts.copy!r} has not once."
        )
        advice = _COPY.format(copy=facts.copy, source=facts.source)
        return (replace(ABOUT.tip(why, 0.0, 0.0, facts.copy), advice=advice),)
    if not facts.is_moving:
        return (ABOUT.passed("targets that the network makes come from weights that are not trained by them."),)
    losses = [loss for _, loss in evidence.losses]
    first, last = sum(losses[:_ENDS]), sum(losses[-_ENDS:])
    has_risen = steps >= STEPS_TO_LEARN and (not math.isfinite(last) or last > _RISEN * abs(first))
    is_nothing = evidence.skill is not None and evidence.skill <= LEARNS and steps >= STEPS_TO_LEARN
    if not has_risen and not is_nothing:
        return (ABOUT.passed("the network makes targets for itself, and its loss does not rise."),)
    which = "" if facts.made == ("the model's",) else f" ({listed(facts.made)})"
    why = (
        f"the loss takes outputs of the network itself as targets{which}, without a gradient, and the weights that it "
        f"trains make them: each step moves the targets as well. The loss went from {first / _ENDS:.3g} to "
        f"{last / _ENDS:.3g}."
    )
    return ((ABOUT.issue if has_risen else ABOUT.tip)(why, last, first),)
