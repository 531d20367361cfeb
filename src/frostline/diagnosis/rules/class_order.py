"""FL507: batches that come in the order of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL507", "batches in the order of the classes", "order",
    "shuffle the samples before each epoch: DataLoader(dataset, batch_size, shuffle=True).",
    9,
)  # fmt: skip
_SHARE = 0.25  # of the classes beyond the first that a shuffled batch would hold
_MOST = 2.0  # classes in a batch; samplers that take some samples of each of several classes hold more
_BETWEEN = 0.6  # of the variance of real targets; of shuffled batches of 8 rows, an eighth
_LEARNS_WELL = 0.5  # of the loss of the constant-prediction baseline is saved: the order has done little harm


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How many classes a batch holds, against how many it would if its rows were drawn at random."""
    facts = evidence.classes
    between = evidence.shifts.between if evidence.shifts is not None else 0.0
    if between > _BETWEEN:
        why = (
            f"{between:.0%} of the variance of the targets lies between batches: they come in an order of the targets."
        )
        return (_found(evidence, why, between, _BETWEEN),)
    if facts is None or facts.per_batch is None or facts.if_shuffled is None or facts.count < 2:
        return (ABOUT.not_applicable("the targets are not several classes, one for each sample of a batch."),)
    why = f"a batch holds {facts.per_batch:.1f} of {facts.count} classes; shuffled ones hold {facts.if_shuffled:.1f}."
    most = min(_MOST, 1 + _SHARE * (facts.if_shuffled - 1))
    if facts.per_batch > most:
        return (ABOUT.passed(why, facts.per_batch, most),)
    return (_found(evidence, why, facts.per_batch, most),)


def _found(evidence: Evidence, why: str, measured: float, limit: float) -> Finding:
    """An issue, unless the network learns well all the same, or learns no more of the same rows, shuffled."""
    shuffle = evidence.shuffle
    if shuffle is not None:
        why += f" The score on held-out samples: {shuffle.own:.0%}; of the same rows, shuffled: {shuffle.shuffled:.0%}."
    is_harmless = evidence.skill is not None and evidence.skill > _LEARNS_WELL
    is_tip = is_harmless or (shuffle is not None and not shuffle.is_better)
    return (ABOUT.tip if is_tip else ABOUT.issue)(why, measured, limit)
