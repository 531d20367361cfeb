"""FL511: a reshape where a transpose is meant, or a softmax over another axis than that which is summed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL511", "axes exchanged", "reshape",
    "use x.transpose(1, 2) or x.permute(...) where axes are to be exchanged: view and reshape keep the order of the "
    "values, so that they mix what the axes stand for.",
    8,
)  # fmt: skip
_WELL = 0.5  # of the loss of the baseline is saved all the same


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Reshapes to the same sizes in another order; in a network that learns, sizes may agree by chance."""
    facts = evidence.axes
    if facts is None:
        return (ABOUT.left_to_checkup("reshapes were not listened to"),)
    if facts.scattered:
        before, after = facts.scattered[0]
        why = (
            f"the loss reads outputs of shape {before} as rows of shape {after}: neighbouring places are taken "
            f"for the {after[1]} classes of one."
        )
        order = (0, *range(2, len(before)), 1)
        advice = f"move the classes to the end first: output.permute{order}.reshape(-1, {after[1]})."
        return (replace(ABOUT.issue(why, float(len(facts.scattered)), 0.0), advice=advice),)
    if facts.unweighed and not facts.exchanged:
        shape, axis, summed = facts.unweighed[0]
        why = (
            f"a softmax over axis {axis} gives weights of shape {shape}, and a product sums over their axis {summed}: "
            "what is weighed there has weights that do not add up to 1."
        )
        is_poor = evidence.skill is not None and evidence.skill < _WELL
        advice = "let the softmax run over the axis that the product sums over: scores.softmax(dim=-1) @ values."
        return (replace((ABOUT.issue if is_poor else ABOUT.tip)(why, float(axis), float(summed)), advice=advice),)
    if not facts.exchanged:
        return (ABOUT.passed("no reshape exchanges the sizes of axes."),)
    before, after = facts.exchanged[0]
    why = f"a view or reshape turns shape {before} into {after}: the sizes are exchanged, and the values stay in order."
    learns_nothing = evidence.skill is not None and evidence.skill <= LEARNS
    return ((ABOUT.issue if learns_nothing else ABOUT.tip)(why, float(len(facts.exchanged)), 0.0),)
