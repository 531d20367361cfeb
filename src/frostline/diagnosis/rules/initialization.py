"""FL302: layers whose weights start far too large or too small."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import DRAW_ALL, draw
from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import finite_records, of_layer

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

_ADVICE = "if this layer has learnt nothing yet, draw its weights anew: {}. In a trained network this is no fault."
ABOUT = About("FL302", "badly scaled initialisation", "initialization", _ADVICE.format(draw("fc1")), 5)
# Outputs of the last layer of He, Glorot and torch's own initialisation deviate by 0.1 to 3.
_ISSUE, _TIP = 10.0, 4.0
_BEGINS = 5.0  # times the loss of the constant-prediction baseline; networks that were just made have 1 to 1.5
_JUMP = 10.0  # between one layer and the next
_GATED = "recurrent"  # states between -1 and 1, which half-open gates make small at first


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Deviation of the outputs in the first sampled step, of the last layer and from layer to layer."""
    records = finite_records(evidence)[:1]
    first = _first_loss(evidence)
    if first is not None:
        return (first,)
    if records and records[0].step > 0:
        return (ABOUT.not_applicable("the first step was not measured, and outputs grow while a network learns."),)
    layers = [layer for layer in evidence.layers if layer.has_weights]
    sizes = [(layer, of_layer(records, layer.name, "deviation")) for layer in layers]
    known = [(layer, values[0]) for layer, values in sizes if values]
    if len(known) < 2:
        return (ABOUT.not_applicable("the model has fewer than two layers with weights."),)
    found: list[Finding] = []
    last, size = known[-1]
    if size > _TIP:
        why = f"before the first step, the outputs of layer {last.name!r} have a standard deviation of {size:.2g}."
        found.append(_advised((ABOUT.issue if size > _ISSUE else ABOUT.tip)(why, size, _ISSUE, last.name)))
    start = evidence.inputs.widest if evidence.inputs is not None else None
    jump = known[0][1] / start if start and known[0][1] else 1.0
    is_first = evidence.layers[0].has_weights and known[0][0].kind != _GATED
    if is_first and not 1 / _JUMP < jump < _JUMP:
        why = f"the outputs of layer {known[0][0].name!r} are {jump:.2g} times as large as its inputs."
        found.append(_advised(ABOUT.tip(why, jump, _JUMP, known[0][0].name)))
    return tuple(found) or (
        ABOUT.passed(f"before the first step, the standard deviation of the outputs is {size:.2g}.", size, _ISSUE),
    )


def _first_loss(evidence: Evidence) -> Finding | None:
    """A loss of classes that begins far above that of the same answer for all: outputs are large, and wrong."""
    first = next((loss for _, loss in evidence.losses), None)
    is_of_classes = evidence.loss is not None and "classes" in (evidence.loss.kind, evidence.loss.aim.kind)
    if (
        first is None
        or not (evidence.level or 0.0) > 0
        or evidence.level is None
        or not is_of_classes
        or not _BEGINS * evidence.level < first < math.inf
    ):
        return None
    why = (
        f"the loss begins at {first:.3g}, {first / evidence.level:.2g} times that of the constant-prediction baseline: "
        "outputs are large before anything is learnt."
    )
    advice = (
        "make the outputs small at the start: divide the weights of the last layer (of embeddings that are the last "
        "layer, too) by 10 when they are made, nn.init.normal_(weight, std=0.02), or draw all of them anew: "
        f"{DRAW_ALL}."
    )
    return replace(ABOUT.tip(why, first, _BEGINS * evidence.level), advice=advice)


def _advised(finding: Finding) -> Finding:
    return replace(finding, advice=_ADVICE.format(draw(finding.layer or "")))
