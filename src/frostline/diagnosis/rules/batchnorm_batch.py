"""FL602: BatchNorm over too few values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL602", "BatchNorm with too small batches", "batchnorm",
    "take larger batches, or GroupNorm or LayerNorm instead.",
    6,
)  # fmt: skip
_ISSUE, _TIP = 4, 8  # values per channel: the deviation of n values is off by about 1 / sqrt(2n)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The fewest values per channel that a BatchNorm took its statistics of."""
    facts = evidence.norms
    if facts is None or facts.smallest_batch is None:
        return (ABOUT.not_applicable("no BatchNorm in training mode was seen."),)
    count = facts.smallest_batch
    why = f"each channel's batch statistics come from only {count} values."
    if count <= _TIP:
        return ((ABOUT.issue if count <= _ISSUE else ABOUT.tip)(why, float(count), _ISSUE, facts.layers[0]),)
    return (ABOUT.passed(why, float(count), _ISSUE),)
