"""FL412: dropout behind the output layer, which sets answers to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL412", "outputs are dropped", "dropped_outputs",
    "take away the dropout behind the output layer: the layer that gives the answers comes last, and dropout stands "
    "before it.",
    8,
)  # fmt: skip


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The share of the outputs that is set to zero in training; a loss that compares rows may ask for such noise."""
    modes = evidence.modes
    if modes is None:
        return (ABOUT.left_to_checkup("the end of the forward pass was not looked at"),)
    share = modes.dropped_outputs
    if not share:
        return (ABOUT.passed("no dropout stands behind the output layer."),)
    why = f"in training, {share:.0%} of the model's outputs are set to zero at random before the loss sees them."
    is_known = evidence.loss is not None and evidence.loss.kind != "unknown"
    return ((ABOUT.issue if is_known else ABOUT.tip)(why, share, 0.0),)
