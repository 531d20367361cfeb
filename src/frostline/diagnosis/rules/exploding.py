"""FL102: activations or gradients that grow from layer to layer, or until they are no numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import DRAW_ALL
from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import early, finite_records, of_layer, typical, weighted_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence, StepRecord

_CLIP = "clip between backward() and optimizer.step(): fl.remedies.clip_by_norm(1.0)(model.parameters())"
ABOUT = About(
    "FL102", "exploding activations or gradients", "exploding",
    f"where outputs are large before the first step: {DRAW_ALL}. Where they grow with the steps: divide the learning "
    f"rate by 10. In recurrent networks: {_CLIP}.",
    8,
)  # fmt: skip
# He and Glorot keep the deviation of the outputs within a factor of 3 over 10 layers; normalised networks as well.
_ISSUE, _TIP = 30.0, 4.0
_RECURRENT = 30.0  # gradient over weight norm of a recurrent layer; healthy LSTM and GRU of 60 steps stay below 3


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Largest deviation of a layer's output over that of the first, in the first steps; recurrent gradients by size."""
    records = early(finite_records(evidence))
    hidden = [layer for layer in evidence.layers if layer.has_weights and not layer.is_output]
    layers = [layer.name for layer in hidden if not layer.starts_at_zero]
    sizes = {name: typical(of_layer(records, name, "deviation")) for name in layers}
    known = {name: size for name, size in sizes.items() if size}
    if not known:
        recurrent = _recurrent(evidence)
        if recurrent is not None:
            return (recurrent,)
        if not layers:
            return (ABOUT.not_applicable("the model has no hidden layer with weights."),)
        return (ABOUT.not_judged("no outputs of hidden layers were measured while all values were finite."),)
    first, last = next(iter(known)), max(known, key=lambda name: known[name])
    growth = known[last] / known[first]
    before = _at_first(records, last)
    why = (
        f"the standard deviation of the outputs grows from {known[first]:.2g} in layer {first!r} to {known[last]:.2g} "
        f"in layer {last!r}{before}."
    )
    advice = "divide the learning rate by 10: the outputs grew while training." if before else f"{DRAW_ALL}."
    if growth > _ISSUE:
        return (replace(ABOUT.issue(why, growth, _ISSUE, last), advice=advice),)
    recurrent = _recurrent(evidence)
    if recurrent is not None:
        return (recurrent,)
    if growth > _TIP:
        return (replace(ABOUT.tip(why, growth, _ISSUE, last), advice=advice),)
    return (ABOUT.passed(why, growth, _ISSUE),)


def _at_first(records: Sequence[StepRecord], layer: str) -> str:
    """How large they were before the first step, where steps have made them larger by far."""
    sizes = of_layer(records, layer, "deviation")
    start, now = sizes[0], typical(sizes)
    return f" ({start:.2g} before the first step)" if now and now > _TIP * start else ""


def _recurrent(evidence: Evidence) -> Finding | None:
    trainable = set(weighted_layers(evidence))
    for layer in evidence.layers:
        if layer.kind != "recurrent" or layer.name not in trainable:
            continue
        records = finite_records(evidence)
        gradients, weights = (of_layer(records, layer.name, field) for field in ("gradient_norm", "weight_norm"))
        if gradients and weights and max(gradients) / max(weights) > _RECURRENT / 10:
            ratio = max(gradients) / max(weights)
            why = f"the gradient norm of layer {layer.name!r} reaches {ratio:.2g} times its weight norm."
            make = ABOUT.issue if ratio > _RECURRENT else ABOUT.tip
            return replace(make(why, ratio, _RECURRENT, layer.name), advice=f"{_CLIP}.")
    return None
