"""FL514: rows whose input comes with several targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL514", "one input, several targets", "targets",
    "look at how these rows are made: draw a negative again where it is among the positives, or drop it "
    "(negatives = [pair for pair in negatives if pair not in positives]); drop rows that were labelled twice. Outcomes "
    "of chance, such as clicks, do have both.",
    8,
)  # fmt: skip
_SHARE = 0.1  # of the rows


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The share of rows whose very input has another target elsewhere; outcomes of chance do, so this is a tip."""
    facts = evidence.rows
    if facts is None or not facts.num_features:
        return (ABOUT.left_to_checkup("rows with one number or class as the target were not compared"),)
    if facts.torn < _SHARE or facts.torn_targets is None:
        return (ABOUT.passed("rows with the same input have the same target.", facts.torn, _SHARE),)
    one, other = facts.torn_targets
    why = (
        f"{facts.torn:.0%} of the rows have an input that comes with another target as well: one of them both with "
        f"{one:g} and with {other:g}. No output is right for both."
    )
    return (ABOUT.tip(why, facts.torn, _SHARE),)
