"""FL504: gradients that are not cleared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL504", "gradients accumulated by mistake", "accumulation",
    "call optimizer.zero_grad() once per step, before backward.",
    9,
)  # fmt: skip


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether the gradient of a step still holds that of the step before."""
    if evidence.has_accumulated is None:
        return (ABOUT.not_applicable("only a monitor that has the optimizer can see this, over four steps."),)
    if evidence.has_accumulated:
        why = "the gradients of the first steps contain those of the step before: they were not cleared."
        return (ABOUT.issue(why, 1.0, 0.0),)
    return (ABOUT.passed("gradients are cleared between steps."),)
