"""FL509: padding that counts in the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL509", "padding counts in the loss", "targets",
    "leave padding out of the loss: cross_entropy(output, target, ignore_index=...) with its label, or set the targets "
    "there to -100.",
    8,
)  # fmt: skip
_TIP, _ISSUE = 0.2, 0.5  # of all places


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The share of places that are padding, in inputs and targets alike, and have a gradient."""
    facts = evidence.places
    if facts is None:
        return (ABOUT.not_applicable("the targets are not one class for each place of a sequence."),)
    why = f"{facts.padding:.0%} of the places are padding (label {facts.label}, at the end of each row) and count."
    if facts.padding <= _TIP:
        return (ABOUT.passed(why, facts.padding, _ISSUE),)
    return ((ABOUT.issue if facts.padding > _ISSUE else ABOUT.tip)(why, facts.padding, _ISSUE),)
