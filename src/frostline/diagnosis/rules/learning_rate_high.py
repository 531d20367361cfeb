"""FL401: steps that are too large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import (
    blow_up,
    burst,
    finite_records,
    loss_levels,
    of_layer,
    typical,
    weighted_layers,
)

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL401", "learning rate too high", "learning_rate",
    "divide the learning rate by 10. If the loss falls all the same, keep the rate.",
    4,
)  # fmt: skip
_LARGE, _TIP = 0.05, 0.03  # of a layer's weights changed in one step; 1e-3 is usual, 1e-2 is fast
_BURST = 100.0  # times the first loss, of a run that is no number within ten steps
_RISE, _NOISE = 1.2, 0.05  # of the lowest loss, and of the first


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The loss ends above where it was, while updates are large."""
    records, levels = finite_records(evidence), loss_levels(evidence)
    zeros = {layer.name for layer in evidence.layers if layer.starts_at_zero}  # their first steps are all that they are
    layers = weighted_layers(evidence)
    names = [name for name in layers if name not in zeros] or layers
    ratios = [typical(of_layer(records[1:], name, "update_ratio")) for name in names]
    risen = burst(evidence)
    if risen is not None and not _has_odd_data(evidence, len(records)):
        start, highest, step = risen
        why = (
            f"the loss rose from {start:.3g} at the first step to {highest:.2g}, and was no number from step {step} on."
        )
        return (ABOUT.issue(why, highest / start, _BURST),)
    largest = max((ratio for ratio in ratios if ratio is not None), default=None)
    if levels is None or largest is None:
        return (ABOUT.not_judged("fewer than ten losses, or no updates, were measured."),)
    blown_up = blow_up(evidence)
    if blown_up is not None:
        start, highest, end = blown_up
        why = f"the loss rose from {start:.3g} at the first step to {highest:.2g}, and ended at {end:.3g}."
        return (ABOUT.issue(why, largest, _LARGE),)
    first, best, last, _ = levels
    why = f"one step changes a layer's weights by up to {largest:.1%}; the loss went from {first:.3g} to {last:.3g}."
    rises = last > _RISE * first and last > 0
    if _has_stopped(evidence, len(records)) or (rises and largest > _TIP):
        return (ABOUT.issue(why, largest, _LARGE),)
    has_turned = last > best + (_RISE - 1) * abs(best) + _NOISE * abs(first)
    if rises or largest > _TIP or has_turned:
        return (ABOUT.tip(why, largest, _LARGE),)
    return (ABOUT.passed(why, largest, _LARGE),)


def _has_stopped(evidence: Evidence, num_finite: int) -> bool:
    """True if the run ended in what is no number, and its data did not bring that."""
    return len(evidence.records) > num_finite and not _has_odd_data(evidence, num_finite)


def _has_odd_data(evidence: Evidence, num_finite: int) -> bool:
    """True if what is no number came with the data."""
    return any(record.nonfinite in {"input", "target"} for record in evidence.records[num_finite : num_finite + 1])
