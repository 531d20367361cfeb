"""FL503: an output layer and a loss that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.health.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About(
    "FL503", "output and loss do not fit", "loss_mismatch",
    "give cross_entropy raw logits (no softmax before it), nll_loss log-probabilities, "
    "binary_cross_entropy_with_logits no sigmoid, and class indices a loss for classes.",
    9,
)  # fmt: skip
# A loss that fits pushes at least as hard where the answer is certain and wrong as where there is none; squared error
# and cross-entropy do, softmax before either loses all slope there.
_SLOPE, _STUCK, _REACH = 0.05, 0.3, 0.2


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How the loss answers to answers that are right, wrong and certain."""
    facts = evidence.loss
    if facts is None or facts.kind == "unknown":
        return (ABOUT.not_applicable("the loss could not be asked about other answers than the model's."),)
    if not facts.prefers_right:
        return (ABOUT.issue("right answers do not cost less than wrong ones.", None, None),)
    if not facts.is_bounded:
        return (ABOUT.issue("a more and more certain answer costs less without end.", None, None),)
    if facts.slope_when_wrong < _SLOPE:
        slope = facts.slope_when_wrong
        why = f"where the answer is certain and wrong, the loss has {slope:.0e} of the slope it has at the start."
        return (ABOUT.issue(why, slope, _SLOPE),)
    if facts.stuck_share > _STUCK:
        why = f"the model gives probabilities, which cannot take off {facts.stuck_share:.0%} of this loss."
        return (ABOUT.issue(why, facts.stuck_share, _STUCK),)
    if facts.out_of_reach > _REACH:
        why = f"{facts.out_of_reach:.0%} of the targets are outside of what the model's last function can give."
        return (ABOUT.issue(why, facts.out_of_reach, _REACH),)
    return (ABOUT.passed("right answers cost least, wrong ones are corrected."),)
