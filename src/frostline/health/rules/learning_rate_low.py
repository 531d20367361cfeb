"""FL402: steps that are too small to get anywhere."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.health.rules.contract import About
from frostline.health.rules.reading import blow_up, finite_records, loss_levels, of_layer, typical, weighted_layers

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About("FL402", "learning rate too low", "learning_rate", "multiply the learning rate by 10.", 3)
# Of a layer's weights changed in one step; 1e-3 is usual. Never an issue by itself: a network that has learnt all there
# is moves as little.
_SMALL, _TIP = 6e-4, 1e-3


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How far a step moves the layer that moves most."""
    records, levels = finite_records(evidence), loss_levels(evidence)
    ratios = [typical(of_layer(records[1:], name, "update_ratio")) for name in weighted_layers(evidence)]
    largest = max((ratio for ratio in ratios if ratio is not None), default=None)
    if evidence.optimizer.is_scheduled:
        return (ABOUT.not_applicable("a schedule drives the learning rate: what was seen may be its beginning."),)
    if levels is None or largest is None:
        return (ABOUT.not_applicable("fewer than ten losses, or no updates, were seen."),)
    if blow_up(evidence) is not None:
        return (ABOUT.not_applicable("the loss blew up: steps are small against what it made of the weights."),)
    first, _, last, _ = levels
    fall = (first - last) / abs(first) if first else 0.0
    moved = f"fell by {fall:.1%}" if fall >= 0 else f"rose by {-fall:.1%}"
    why = f"a step changes at most {largest:.1e} of a layer's weights; the loss {moved}."
    if largest >= _TIP:
        return (ABOUT.passed(why, largest, _SMALL),)
    return (replace(ABOUT.tip(why, largest, _SMALL), advice=_advice(largest)),)


def _advice(largest: float) -> str:
    """The power of ten that brings the largest update to what is usual; 10 at least."""
    if largest <= 0:
        return ABOUT.advice
    return f"multiply the learning rate by {10 ** max(1, round(math.log10(_TIP / largest))):,}."
