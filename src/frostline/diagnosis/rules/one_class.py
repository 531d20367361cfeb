"""FL508: targets that are all of one class."""

from __future__ import annotations

from dataclasses import replace
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
_ALL_SAME = (
    "look where the targets are made: print target.unique() and target.float().mean() of some batches. Look for boxes "
    "or anchors that match no object (all is background), masks that are read as zeros, a threshold or unit that is "
    "wrong, labels of another column."
)
_FEWEST = 20  # batches: fewer may be the beginning of data in the order of their classes


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether all samples have the same target: any network learns that, and nothing else."""
    facts = evidence.classes
    if evidence.only_target is not None and facts is None:
        value, count = evidence.only_target
        is_read = evidence.loss is not None and evidence.loss.aim.kind != "ignored"
        if not is_read:
            return (ABOUT.not_applicable("the loss takes no notice of the targets."),)
        why = (
            f"every target of {len(evidence.losses)} batches is {value:g}, {count} in each row: nothing else is learnt."
        )
        found = (ABOUT.issue if count > 1 and len(evidence.losses) >= _FEWEST else ABOUT.tip)(why, 1.0, 1.0)
        return (replace(found, advice=_ALL_SAME),)
    if facts is None:
        return (ABOUT.not_applicable("the targets are not one class for each sample of a batch."),)
    if facts.count > 1:
        return (ABOUT.passed(f"the targets are {facts.count} classes.", float(facts.count), 1.0),)
    why = f"every target of {len(evidence.losses)} batches is {facts.first}: there is nothing to learn but that."
    is_certain = len(evidence.losses) >= _FEWEST
    return ((ABOUT.issue if is_certain else ABOUT.tip)(why, 1.0, 1.0),)
