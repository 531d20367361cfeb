"""FL510: answers that stand in the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL510", "the model sees what it is to predict", "targets",
    "mask what comes later: attention with is_causal=True or a causal mask, convolutions padded on the left, recurrent "
    "layers in one direction.",
    9,
)  # fmt: skip


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether targets are the next inputs, and outputs of earlier places change with later inputs."""
    facts = evidence.places
    if facts is None:
        return (ABOUT.not_applicable("the targets are not one class for each place of a sequence."),)
    if facts.sees_answer:
        why = (
            "the target of each place is the next input, and replacing the last input changes outputs of earlier "
            "places: the loss falls by copying, which is of no use where the next input is not there yet."
        )
        return (ABOUT.issue(why, 1.0, 0.0),)
    return (ABOUT.passed("outputs do not depend on the inputs that are their targets."),)
