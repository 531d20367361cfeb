"""FL407: a schedule that brings the learning rate to nothing long before the run ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL407", "learning rate sinks to nothing early", "schedule",
    "call scheduler.step() once per epoch if its steps are epochs (step_size, T_max, milestones); if it is called "
    "after each batch, give its lengths in batches.",
    8,
)  # fmt: skip
_EARLY, _HALF = 0.25, 0.5  # of the run: cosine schedules are there at 0.98
_FEWEST = 20  # steps after it
_RESTARTS = 3
_ANEW = (
    "count all steps for a warm-up, not those of an epoch: make the scheduler once, before the loop over epochs, and "
    "call scheduler.step() after each batch."
)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """When the learning rate came under a thousandth of its highest value, for good."""
    facts = evidence.rates
    if facts is None:
        return (ABOUT.not_applicable("no optimizer was watched, or it has no learning rate."),)
    if facts.restarts >= _RESTARTS:
        why = (
            f"the learning rate rises, and has fallen back {facts.restarts} times in {facts.steps} steps: a warm-up "
            f"begins anew each time, and it never got beyond {facts.highest:.2g}."
        )
        return (replace(ABOUT.issue(why, float(facts.restarts), float(_RESTARTS)), advice=_ANEW),)
    if facts.sunk_at is None:
        return (ABOUT.passed(f"the learning rate did not sink under a thousandth of {facts.highest:.2g}."),)
    share = facts.sunk_at / facts.steps
    why = (
        f"after {facts.sunk_at} of {facts.steps} steps the learning rate is under a thousandth of its highest value "
        f"({facts.highest:.2g}): nothing is learnt in the others."
    )
    if share > _HALF or facts.steps - facts.sunk_at < _FEWEST:
        return (ABOUT.passed(why.partition(":")[0] + ".", share, _EARLY),)
    return ((ABOUT.issue if share <= _EARLY else ABOUT.tip)(why, share, _EARLY),)
