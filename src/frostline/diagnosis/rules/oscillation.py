"""FL403: a loss that goes up and down instead of down."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import loss_levels, smoothed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL403", "oscillating loss", "oscillation",
    "divide the learning rate by 3 to 10, or take larger batches; lower a momentum above 0.9 to 0.9.",
    4,
)  # fmt: skip
_ISSUE = 3  # rises between the tenths of a run
_MOMENTUM = 0.95
_SIZE = 0.1  # of the loss: smaller ones are noise


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Rises of the loss from one tenth of the run to the next, that are not noise."""
    parts, levels = smoothed(evidence), loss_levels(evidence)
    if levels is None:
        return (ABOUT.not_judged("fewer than ten losses were measured."),)
    if min(parts) < 0 < max(parts):
        return (
            ABOUT.not_judged("the loss takes both signs, as a policy-gradient loss does, so its size has no meaning."),
        )
    floor = _SIZE * max(abs(levels[0]), 1e-12)
    rises = sum(after > before + max(_SIZE * abs(before), 0.3 * floor) for before, after in pairwise(parts))
    why = f"the loss rose by a tenth or more {rises} times between the tenths of the run."
    momentum = evidence.optimizer.momentum or 0.0
    if momentum > _MOMENTUM and rises < _ISSUE - 1:
        why = (
            f"momentum {momentum:g} averages over {1 / max(1 - momentum, 1e-9):.0f} steps, and overshoots for as many."
        )
        return (ABOUT.tip(why, momentum, _MOMENTUM),)
    return (ABOUT.tip(why, float(rises), _ISSUE) if rises >= _ISSUE - 1 else ABOUT.passed(why, float(rises), _ISSUE),)
