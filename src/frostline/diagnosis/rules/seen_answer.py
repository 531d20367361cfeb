"""FL510: answers that stand in the input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.loss_records import LossAim

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL510", "the model sees what it is to predict", "targets",
    "mask what comes later: attention with is_causal=True or a causal mask, convolutions padded on the left, recurrent "
    "layers in one direction.",
    9,
)  # fmt: skip


_SAME = 1e-3  # of a factor of 1
_USED = 0.5  # what a network learns that makes use of it
_AIMED = frozenset({"classes", "values", "labels"})  # losses that lead an output to its own target
_OWN = (
    "move the targets by one place, so that each place predicts the next word: loss_fn(logits[:, :-1], words[:, 1:]); "
    "and not twice, if the model does it itself."
)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether targets are the next inputs, and outputs of earlier places change with later inputs."""
    in_rows = _in_rows(evidence)
    if in_rows is not None:
        return (in_rows,)
    facts = evidence.places
    if facts is None:
        return (ABOUT.not_applicable("the targets are not one class for each place of a sequence."),)
    if facts.sees_answer:
        why = (
            "the target of each place is the next input, and replacing the last input changes outputs of earlier "
            "places: the loss falls by copying, which is of no use where the next input is not there yet."
        )
        return (ABOUT.issue(why, 1.0, 0.0),)
    if facts.copies_input:
        why = (
            "the target of each place is the input of that very place, and outputs do not change with later inputs: "
            "the loss falls by copying a word that is given."
        )
        return (replace(ABOUT.issue(why, 1.0, 0.0), advice=_OWN),)
    if facts.ahead:
        way = f"{abs(facts.ahead)} {'later' if facts.ahead > 0 else 'before'}"
        why = f"the target of each place is the input {way}; that of a model of the next input is the one after it."
        return (replace(ABOUT.tip(why, float(facts.ahead), 1.0), advice=_OWN),)
    return (ABOUT.passed("outputs do not depend on the inputs that are their targets."),)


def _in_rows(evidence: Evidence) -> Finding | None:
    """A feature that is the target itself, in each row; a tip where the loss does not lead outputs there (rewards)."""
    facts = evidence.rows
    if facts is None or facts.answer_at is None:
        return None
    if evidence.own_targets is not None and evidence.own_targets.made:
        return None  # a reward, which the loss adds to a target of its own
    at, times = facts.answer_at, f"{facts.factor:.3g} times " if abs(facts.factor - 1) > _SAME else ""
    why = (
        f"the target of every row is {times}feature {at} of {facts.num_features} of its input, up to an offset: what "
        "is to be predicted is given."
    )
    advice = (
        f"leave feature {at} out of the inputs: a window that goes one step too far (series[at : at + size] with the "
        "target series[at + size]), or a label column that was left in the table."
    )
    aim = evidence.loss.aim if evidence.loss is not None else LossAim()
    is_used = evidence.skill is not None and evidence.skill > _USED and aim.kind in _AIMED and not aim.lost
    return replace((ABOUT.issue if is_used else ABOUT.tip)(why, 1.0, 0.0), advice=advice)
