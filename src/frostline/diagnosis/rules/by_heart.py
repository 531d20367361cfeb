"""FL413: rows that are learnt by heart, and batches that come several times in a row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL413", "rows learnt by heart", "overfitting",
    "let more rows, or more variety, reach the network: count the different rows of an epoch against len(dataset), and "
    "look for augmentation that is switched off or the same for every worker and epoch, a sampler or restart that "
    "begins with the same rows again, one worker's part of the data. Then dropout, weight decay, fewer units, or fewer "
    "epochs (early stopping).",
    3,
)  # fmt: skip
_REPEATED = (
    "look where the batches are made: workers that draw with one seed (worker_init_fn, a generator of its own for each "
    "worker), a loop that takes several steps on a batch, an iterator that does not move on. Batches that repeat in a "
    "row should be other rows each time."
)
_FAR, _COSTS = 10.0, 0.08  # times the loss on its own rows; and of that of the constant-prediction baseline
_GAP = 0.1  # of the score
_IN_A_ROW = 2.0
_FEWEST_ROWS, _FEW_ROWS, _OFTEN = 32, 500, 20.0  # fewer are a truth table


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """A loss that is far lower on the rows that were trained on; tips, since any network does it after a time."""
    facts = evidence.heart
    if facts is None:
        return (ABOUT.left_to_checkup("rows that were trained on were not compared with others"),)
    if facts.in_a_row >= _IN_A_ROW:
        why = f"each batch comes {facts.in_a_row:.0f} times in a row, before another one does."
        return (replace(ABOUT.tip(why, facts.in_a_row, 1.0), advice=f"{_REPEATED} {ABOUT.advice}", family="order"),)
    level = abs(evidence.level) if evidence.level is not None else None
    costs = facts.held_out_loss > _COSTS * level if level is not None else facts.held_out_loss > 0
    is_far = facts.held_out_loss > _FAR * facts.trained_loss > 0 and costs
    gap = facts.trained - facts.held_out
    if facts.times > 1 and (is_far or (gap > _GAP and costs)):
        rows = f"the {facts.rows} different rows" if facts.rows else "the rows"
        why = (
            f"{rows} that are trained on come {facts.times:.0f} times each, and are learnt by heart: their loss is "
            f"{facts.trained_loss:.2g}, that of held-out rows {facts.held_out_loss:.2g} (scores {facts.trained:.0%}, "
            f"{facts.held_out:.0%})."
        )
        return (ABOUT.tip(why, facts.held_out_loss, facts.trained_loss),)
    is_known = level is not None and facts.trained_loss < _COSTS * level
    if _FEWEST_ROWS < facts.rows < _FEW_ROWS and facts.times >= _OFTEN and is_known:
        why = (
            f"there are {facts.rows} different rows, which come {facts.times:.0f} times each and are learnt by heart: "
            f"their loss is {facts.trained_loss:.2g}, that of held-out rows {facts.held_out_loss:.2g}."
        )
        return (ABOUT.tip(why, facts.times, _OFTEN),)
    return (ABOUT.passed("held-out rows cost about as much as those that are trained on.", gap, _GAP),)
