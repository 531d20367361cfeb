"""FL202: sigmoid and tanh units on their flat ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import DRAW_ALL
from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import early, finite_records, has_unseen_activations, of_layer, typical

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL202", "saturated units", "saturation",
    f"check the scale of the inputs; {DRAW_ALL}; or swap the activation: "
    'fl.remedies.swap_activations(model, "tanh", "elu"), fl.remedies.swap_activations(model, "sigmoid", "elu").',
    6,
)  # fmt: skip
_ISSUE, _TIP = 0.5, 0.25  # of (value, unit) pairs with less than a hundredth of the steepest slope


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Share of outputs where the activation is flat, by layer, at the start and at the end."""
    records = finite_records(evidence)
    found: list[Finding] = []
    worst = -1.0
    last = max((layer.order for layer in evidence.layers if layer.has_weights), default=math.inf)
    for layer in evidence.layers:
        if layer.order > last:
            continue  # the function of the output: certain answers lie on its flat ends
        starts = typical(of_layer(early(records), layer.name, "saturated"))
        ends = typical(of_layer(records[-5:], layer.name, "saturated"))
        if starts is None or ends is None:
            continue
        share = max(starts, ends)
        worst = max(worst, share)
        why = f"{starts:.0%} of the outputs of layer {layer.name!r} are saturated at the start, {ends:.0%} at the end."
        if share > _TIP:
            found.append((ABOUT.issue if share > _ISSUE else ABOUT.tip)(why, share, _ISSUE, layer.name))
    if worst < 0:
        if has_unseen_activations(evidence):
            return (
                ABOUT.not_judged(
                    "no activation module was seen: the outputs of functions such as F.tanh cannot be measured."
                ),
            )
        return (ABOUT.not_applicable("the network has no tanh or sigmoid module between its layers."),)
    return tuple(found) or (
        ABOUT.passed(f"at most {worst:.0%} of the outputs of a layer are saturated.", worst, _ISSUE),
    )
