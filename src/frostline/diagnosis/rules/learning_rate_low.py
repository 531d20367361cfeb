"""FL402: steps that are too small to get anywhere."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules import low_clip
from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import ENOUGH_EPOCHS
from frostline.diagnosis.rules.reading import blow_up, finite_records, loss_levels, of_layer, typical, weighted_layers

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

_ADVICE = (
    "if the loss has not come down yet, multiply the learning rate by {:,}. A network that has "
    "finished learning moves as little, and needs no other rate."
)
ABOUT = About("FL402", "learning rate too low", "learning_rate", _ADVICE.format(10), 3)
# Of a layer's weights changed in one step; 1e-3 is usual. Never an issue by itself: a network that has learnt all there
# is moves as little.
_TIP = 1e-3
_HARDLY = 1e-5  # a thousand such steps move a hundredth: that is too low, however long the training is
_MOST = 1_000  # times, in one go, without a trial that shows what it does


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How far a step moves the layer that moves most."""
    records, levels = finite_records(evidence), loss_levels(evidence)
    ratios = [typical(of_layer(records[1:], name, "update_ratio")) for name in weighted_layers(evidence)]
    largest = max((ratio for ratio in ratios if ratio is not None), default=None)
    if evidence.stands_still and not evidence.plain_gradient:
        return (ABOUT.not_applicable("no weight moves, and the loss has no gradient: no rate would change that."),)
    if evidence.gradient_norms and not any(evidence.gradient_norms):
        return (ABOUT.not_applicable("all gradients are 0 when the optimizer takes them: no rate would change that."),)
    if low_clip.check(evidence)[0].outcome == "issue":
        return (ABOUT.not_applicable("a clip makes the steps small, whatever the rate (FL411)."),)
    if evidence.optimizer.is_scheduled:
        return (ABOUT.not_applicable("a schedule sets the learning rate, and these steps may be its warm-up."),)
    if levels is None or largest is None:
        return (ABOUT.not_judged("fewer than ten losses, or no updates, were measured."),)
    if evidence.epochs is not None and evidence.epochs < ENOUGH_EPOCHS and largest > _HARDLY:
        return (ABOUT.not_judged(_too_short(evidence.epochs)),)
    if blow_up(evidence) is not None:
        return (
            ABOUT.not_applicable(
                "the loss diverged: steps are small only compared with the weights that this produced."
            ),
        )
    first, _, last, _ = levels
    fall = (first - last) / abs(first) if first else 0.0
    moved = f"fell by {fall:.1%}" if fall >= 0 else f"rose by {-fall:.1%}"
    why = f"one step changes a layer's weights by at most {largest:.1e} of their norm; the loss {moved}."
    if largest >= _TIP:
        return (ABOUT.passed(why, largest, _TIP),)
    return (replace(ABOUT.tip(why, largest, _TIP), advice=_advice(largest)),)


def _advice(largest: float) -> str:
    """With the power of ten that brings the largest update to what is usual, from 10 to 1,000."""
    if largest <= 0:
        return ABOUT.advice
    return _ADVICE.format(min(_MOST, 10 ** max(1, round(math.log10(_TIP / largest)))))


def _too_short(epochs: float) -> str:
    seen = "each input was seen once" if epochs < 1.05 else f"the batches are about {epochs:.1f} epochs"
    return (
        f"the training is too short ({seen}): in the first epochs a larger rate is ahead in healthy networks as well. "
        "Pass three epochs or more, such as [batch for _ in range(3) for batch in loader], or pass epochs= where "
        "inputs never repeat."
    )
