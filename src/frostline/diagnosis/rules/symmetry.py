"""FL301: units that started as copies of each other, and stay so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import draw
from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

_ADVICE = "draw random weights for this layer: {}."
ABOUT = About("FL301", "symmetric initialisation", "symmetry", _ADVICE.format(draw("fc1")), 9)
_ISSUE, _TIP = 0.5, 0.1


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Share of hidden units whose weights were and are those of another unit, by layer.

    Layers that start at zero and part in the first steps (Fixup, LoRA, a zero output layer) are not meant.
    """
    hidden = {layer.name for layer in evidence.layers if layer.has_weights and not layer.is_output}
    shares = [(name, share) for name, share in evidence.alike if name in hidden and share > _TIP]
    if not hidden or not evidence.records:
        return (ABOUT.not_applicable("the model has no hidden layer, or no step was measured."),)
    return tuple(_finding(name, share) for name, share in shares) or (
        ABOUT.passed("all units of a layer have different weights.", 0.0, _ISSUE),
    )


def _finding(name: str, share: float) -> Finding:
    why = (
        f"{share:.0%} of the units of layer {name!r} have the same weights as another unit, before and after training."
    )
    found = (ABOUT.issue if share > _ISSUE else ABOUT.tip)(why, share, _ISSUE, name)
    return replace(found, advice=_ADVICE.format(draw(name)))
