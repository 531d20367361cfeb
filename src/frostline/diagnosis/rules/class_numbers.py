"""FL512: numbers of classes that are regressed as if they were a quantity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL512", "classes regressed as numbers", "targets",
    "if the numbers stand for classes, give the model one output for each of them (nn.Linear(width, classes)), take "
    "nn.CrossEntropyLoss(), and pass the targets as whole numbers: target.long().flatten().",
    7,
)  # fmt: skip
# What a linear classifier answers right beyond a linear regression that is rounded, on other rows. Of a quantity in
# whole numbers (counts, grades, rounded functions of the inputs) it is under 0.1; of the digits 0.7.
_ISSUE, _TIP = 0.3, 0.15


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether targets are whole numbers that follow from the inputs as classes, and not as a quantity."""
    facts, loss = evidence.numbers, evidence.loss
    if facts is None or (loss is not None and not loss.follows_shift):
        return (ABOUT.not_applicable("the targets are not one whole number for each row, compared by their errors."),)
    gain = facts.as_classes - facts.as_quantity
    why = (
        f"the targets are {facts.count} whole numbers. On other rows, a linear classifier of the inputs gives the "
        f"right one in {facts.as_classes:.0%}, a linear regression that is rounded in {facts.as_quantity:.0%}."
    )
    if gain <= _TIP:
        return (ABOUT.passed(why, gain, _ISSUE),)
    return ((ABOUT.issue if gain > _ISSUE else ABOUT.tip)(why, gain, _ISSUE),)
