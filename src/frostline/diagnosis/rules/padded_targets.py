"""FL509: padding that counts in the loss."""

from __future__ import annotations

from dataclasses import replace
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
_IN_MODEL = (
    "leave padding out in forward: a mean over the places that count ((hidden * mask).sum(1) / mask.sum(1)), the state "
    "of the last word and not of the last place, src_key_padding_mask=words == 0, pack_padded_sequence."
)
_PROMPT = (
    "if these places are a prompt, a context or another one's turn, which cannot be predicted, mask them: set the "
    "targets there to -100 (ignore_index), or take (loss * loss_mask).sum() / loss_mask.sum(). If they are to be "
    "learnt, look at what the network sees of the places before them."
)
_BY_WORD = (
    "let each word (token) count as much as any other: loss_of_words.sum() / number_of_words of the whole batch (or of "
    "all batches that make one step), and not the mean of the rows' means, by which short rows weigh as much as long "
    "ones. If rows are meant to count the same, this is no fault."
)
_MOST, _TIMES = 0.5, 3.0  # of the loss; times that a word counts more
_TIP, _ISSUE = 0.2, 0.5  # of all places
_CHANGES, _WELL = 0.1, 0.8  # of the spread of the outputs; of the loss of the baseline is saved all the same


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The share of places that are padding, in inputs and targets alike, and have a gradient."""
    facts, reach = evidence.places, evidence.reach
    if reach is not None and reach.padded > _CHANGES and evidence.skill is not None and evidence.skill < _WELL:
        why = (
            f"before the first step, more padding behind the rows changes the outputs by {reach.padded:.0%} of their "
            "spread: it counts in them."
        )
        return (replace(ABOUT.tip(why, reach.padded, _CHANGES), advice=_IN_MODEL, family="wiring"),)
    if facts is None:
        return (ABOUT.not_applicable("the targets are not one class for each place of a sequence."),)
    why = f"{facts.padding:.0%} of the places are padding (label {facts.label}, at the end of each row) and count."
    if facts.padding <= _TIP and facts.unlearnt is not None and facts.unlearnt[2] > _MOST:
        count, total, share = facts.unlearnt
        why = (
            f"at {count} of the {total} places that count, outputs know the targets no better than how common each "
            f"class is, while they know others: these places are {share:.0%} of the loss."
        )
        return (replace(ABOUT.tip(why, share, _MOST), advice=_PROMPT),)
    if facts.padding <= _TIP and facts.by_row >= _TIMES:
        why = (
            f"each row counts the same in the loss, whatever its length: a word of the shortest one {facts.by_row:.0f} "
            "times as much as one of the longest."
        )
        return (replace(ABOUT.tip(why, facts.by_row, 1.0), advice=_BY_WORD),)
    if facts.padding <= _TIP:
        return (ABOUT.passed(why, facts.padding, _ISSUE),)
    return ((ABOUT.issue if facts.padding > _ISSUE else ABOUT.tip)(why, facts.padding, _ISSUE),)
