"""FL301: units that started as copies of each other, and stay so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.health.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About(
    "FL301", "symmetric initialisation", "symmetry",
    "initialise with random weights: fl.remedies.initialize(model).",
    9,
)  # fmt: skip
_ISSUE, _TIP = 0.5, 0.1


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Share of hidden units whose weights were and are those of another unit, by layer.

    Layers that start at zero and part in the first steps (Fixup, LoRA, a zero output layer) are not meant.
    """
    hidden = {layer.name for layer in evidence.layers if layer.has_weights and not layer.is_output}
    shares = [(name, share) for name, share in evidence.alike if name in hidden and share > _TIP]
    if not hidden or not evidence.records:
        return (ABOUT.not_applicable("no hidden layer, or no step, was seen."),)
    return tuple(
        (ABOUT.issue if share > _ISSUE else ABOUT.tip)(
            f"{share:.0%} of the units of {name} are copies of others, before and after training.", share, _ISSUE, name
        )
        for name, share in shares
    ) or (ABOUT.passed("units differ.", 0.0, _ISSUE),)
