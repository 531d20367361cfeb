"""FL505: targets in units that a new network is far away from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.health.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About(
    "FL505", "unscaled targets", "input_scale",
    "standardise the targets by mean and deviation of the training set, and scale predictions back "
    "(fl.remedies.rescale_outputs lets the model do that).",
    5,
)  # fmt: skip
# A new network answers with values of about 1: weights have to travel to reach others, or drown what is small in noise.
_LARGE, _SMALL = (10.0, 30.0), (0.03, 0.01)  # (tip, issue)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Mean and deviation of real targets."""
    facts = evidence.targets
    if facts is None:
        return (ABOUT.not_applicable("the targets are not real numbers, or nobody looked."),)
    size = max(abs(facts.mean), facts.deviation)
    why = f"the targets have a mean of {facts.mean:.3g} and deviate by {facts.deviation:.3g}."
    if size > _LARGE[0]:
        return ((ABOUT.issue if size > _LARGE[1] else ABOUT.tip)(why, size, _LARGE[1]),)
    if facts.deviation < _SMALL[0]:
        make = ABOUT.issue if facts.deviation < _SMALL[1] else ABOUT.tip
        return (make(why, facts.deviation, _SMALL[1]),)
    return (ABOUT.passed(why, size, _LARGE[1]),)
