"""FL409: weight decay that pulls the weights to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS
from frostline.diagnosis.rules.reading import finite_records, of_layer, typical, weighted_layers

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL409", "weight decay too strong", "weight_decay",
    "lower weight_decay: 1e-4 to 1e-2 are usual, and it is not the learning rate (Adam(parameters, lr=1e-3)).",
    6,
)  # fmt: skip
_LEAST = 1 / 3  # of the weights is left
_LARGE = 0.02  # beyond what is usual, in a network that learns nothing


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How much of the weights is left after the training, with weight decay."""
    decay = evidence.optimizer.weight_decay
    if not decay:
        return (ABOUT.not_applicable("the optimizer has no weight decay."),)
    records = finite_records(evidence)
    norms = [of_layer(records, name, "weight_norm") for name in weighted_layers(evidence)]
    left = typical([of[-1] / of[0] for of in norms if len(of) > 1 and of[0] > 0])
    if left is None:
        return (ABOUT.not_judged("weights were not measured twice."),)
    why = f"with a weight decay of {decay:g}, the weights of a typical layer end at {left:.2g} times their first norm."
    learns_nothing = evidence.skill is not None and evidence.skill <= LEARNS
    if left < _LEAST:
        return ((ABOUT.issue if learns_nothing else ABOUT.tip)(why, left, _LEAST),)
    if learns_nothing and decay > _LARGE and left < 1:
        return (ABOUT.tip(why, left, _LEAST),)
    return (ABOUT.passed(why, left, _LEAST),)
