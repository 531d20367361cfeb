"""FL602: BatchNorm over too few values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence, NormFacts

ABOUT = About(
    "FL602", "BatchNorm with too small batches", "batchnorm",
    "take larger batches, or GroupNorm or LayerNorm instead.",
    6,
)  # fmt: skip
_ISSUE, _TIP = 4, 8  # values per channel: the deviation of n values is off by about 1 / sqrt(2n)
_RISE, _LEAST = 1.5, 0.05  # of the loss without the statistics of the sample itself, and by at least this


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The fewest values per channel that a BatchNorm took its statistics of; all of one sample are no better."""
    facts = evidence.norms
    if facts is None or facts.smallest_batch is None:
        return (ABOUT.not_applicable("no BatchNorm in training mode was seen."),)
    count = facts.smallest_batch
    why = f"each channel's batch statistics come from only {count} values."
    if count <= _TIP:
        return ((ABOUT.issue if count <= _ISSUE else ABOUT.tip)(why, float(count), _ISSUE, facts.layers[0]),)
    if facts.num_samples == 1:
        return _of_one_sample(facts, count)
    return (ABOUT.passed(why, float(count), _ISSUE),)


def _of_one_sample(facts: NormFacts, count: int) -> tuple[Finding, ...]:
    """Each sample is normalised by itself while training, and by the statistics of others later."""
    why = f"each channel's batch statistics come from one sample ({count} values)"
    own, others = facts.train_loss, facts.exact_loss
    if own is None or others is None:
        return (ABOUT.tip(f"{why}.", 1.0, 1.0, facts.layers[0]),)
    why = f"{why}: the loss is {own:.3g} with these, and {others:.3g} with statistics of all samples."
    is_worse = others > _RISE * own and others - own > _LEAST
    return ((ABOUT.issue if is_worse else ABOUT.tip)(why, 1.0, 1.0, facts.layers[0]),)
