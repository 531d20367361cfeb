"""FL508: targets that are all of one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL508", "one class only", "targets",
    "look where the targets are made: labels that were divided, cut to integers or read from the wrong column.",
    9,
)  # fmt: skip
_FEWEST = 20  # batches: fewer may be the beginning of data in the order of their classes


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether all samples have the same target: any network learns that, and nothing else."""
    facts = evidence.classes
    if facts is None:
        return (ABOUT.not_applicable("the targets are not one class for each sample of a batch."),)
    if facts.count > 1:
        return (ABOUT.passed(f"the targets are {facts.count} classes.", float(facts.count), 1.0),)
    why = f"every target of {len(evidence.losses)} batches is {facts.first}: there is nothing to learn but that."
    is_certain = len(evidence.losses) >= _FEWEST
    return ((ABOUT.issue if is_certain else ABOUT.tip)(why, 1.0, 1.0),)
