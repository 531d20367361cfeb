"""FL101: gradients that shrink on their way to the first layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.health.rules.contract import About
from frostline.health.rules.reading import early, finite_records, of_layer, typical, weighted_layers

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About(
    "FL101", "vanishing gradients", "vanishing",
    "use ELU or ReLU with He initialisation (fl.remedies.swap_activations, fl.remedies.initialize), or BatchNorm "
    "before the activations (fl.remedies.insert_batchnorm).",
    7,
)  # fmt: skip
# A healthy network of 8 to 20 layers keeps first and last gradient within a factor of 30 (deep tanh at Glorot, He ReLU:
# 0.05 to 3). Training at a thousandth moves the first layers a thousandth as far: a run of 1,000 steps is one step.
_ISSUE, _TIP = 1e-3, 1e-2


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Gradient norm of the first trainable layers over the largest of all layers, in the first steps.

    The first sample is left out where there are more: a zero output layer (Fixup) passes nothing down, once.
    """
    layers, records = weighted_layers(evidence), finite_records(evidence)
    if len(layers) < 3:
        return (ABOUT.not_applicable(f"{len(layers)} trainable layers with weights: too few for gradients to vanish."),)
    records = early(records[1:] or records)
    norms = {name: typical(of_layer(records, name, "gradient_norm")) for name in layers}
    known = {name: norm for name, norm in norms.items() if norm is not None}
    largest = max(known.values(), default=0.0)
    if not known or largest == 0.0:
        return (ABOUT.not_applicable("no gradients were seen, or all of them are zero."),)
    first = next(iter(known))
    ratio = known[first] / largest
    last = max(known, key=lambda name: known[name])
    why = f"the gradient of {first} is {ratio:.0e} of that of {last} ({known[first]:.1e} against {largest:.1e})."
    if ratio < _ISSUE:
        return (ABOUT.issue(why, ratio, _ISSUE, first),)
    if ratio < _TIP:
        return (ABOUT.tip(why, ratio, _ISSUE, first),)
    return (ABOUT.passed(why, ratio, _ISSUE),)
