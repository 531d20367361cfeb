"""FL506: samples that change each other's outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS
from frostline.diagnosis.rules.reading import listed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL506", "samples mix", "loss_mismatch",
    "look for an operation over the wrong axis: a recurrent or attention layer without batch_first=True, a reshape or "
    "view that swaps axes, a softmax or mean over axis 0. If outputs are meant to depend on the batch, this is no "
    "fault.",
    8,
)  # fmt: skip
_PLACED = (
    "look for what takes the first axis for another one: a view or reshape of (B, T) where a transpose is meant, a "
    "recurrent layer without batch_first=True, a state or table that is indexed by the place in the batch, edges of "
    "one graph that serve for all (edges of graph i begin at node i * num_nodes)."
)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether the outputs of the other samples change with one sample, in eval mode: in most networks they must not."""
    layers = [one for one in evidence.axes.over_samples if one.startswith("layer")] if evidence.axes is not None else []
    if not evidence.mixes and layers and evidence.skill is not None and evidence.skill <= LEARNS:
        why = f"nothing is learnt, and {listed(layers)} runs over the samples: its first axis is that of the batch."
        return (ABOUT.issue(why, None, None),)
    remembers = evidence.modes is not None and evidence.modes.remembers  # a state that is kept: FL605
    if evidence.is_placed and not remembers:
        where = evidence.axes.over_samples if evidence.axes is not None else ()
        why = "in evaluation mode, the output of a row changes with its place in the batch: the same rows in another "
        why += f"order get other outputs{f' ({listed(where)} runs over the samples)' if where else ''}."
        return (replace(ABOUT.issue(why, None, None), advice=_PLACED),)
    if evidence.mixes is None:
        return (ABOUT.not_applicable("the model's output does not have one row for each sample of one input tensor."),)
    if evidence.mixes:
        why = "in evaluation mode, replacing one sample changes the outputs of the others"
        if evidence.axes is not None and evidence.axes.over_samples:
            where = listed(evidence.axes.over_samples)
            return (ABOUT.issue(f"{why}: {where} runs over the samples.", None, None),)
        return (ABOUT.tip(f"{why}.", None, None),)
    return (ABOUT.passed("the output of each sample depends on that sample alone."),)
