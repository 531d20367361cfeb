"""FL411: a clip that takes most of every gradient."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL411", "gradients clipped to little", "clip",
    "raise the threshold of the clip to the usual norm of the gradients, or leave it out: clip_grad_norm_(parameters, "
    "max_norm) is for rare large ones.",
    8,
)  # fmt: skip
_LIKE, _SHARE = 0.02, 0.9  # norms that are the same within this, of so many steps: nothing else makes them so
_FEWEST = 20  # steps
_TIP, _ISSUE = 10.0, 100.0  # times what is left, the gradient without hooks


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Gradients of one and the same norm at nearly every step, far below what a plain backward pass gives."""
    if evidence.optimizer.is_scale_free:
        return (ABOUT.not_applicable("the optimizer's steps do not depend on the size of the gradients."),)
    norms, plain = evidence.gradient_norms, evidence.plain_gradient
    if len(norms) < _FEWEST or plain is None:
        return (ABOUT.left_to_checkup("gradients were not compared with those of a plain backward pass"),)
    usual = median(norms)
    share = sum(abs(norm - usual) <= _LIKE * usual for norm in norms) / len(norms)
    if not usual or share < _SHARE:
        return (ABOUT.passed("the norm of the gradients changes from step to step: no clip cuts all of them."),)
    ratio = plain / usual
    why = (
        f"in {share:.0%} of the steps the gradients have a norm of {usual:.3g} when the optimizer takes them; a plain "
        f"backward pass gives {plain:.3g}."
    )
    learns_nothing = evidence.skill is not None and evidence.skill <= LEARNS
    if ratio > _TIP:
        return ((ABOUT.issue if learns_nothing or ratio > _ISSUE else ABOUT.tip)(why, ratio, _ISSUE),)
    return (ABOUT.passed(why, ratio, _ISSUE),)
