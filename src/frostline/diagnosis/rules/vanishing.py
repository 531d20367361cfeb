"""FL101: gradients that shrink on their way to the first layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from frostline.diagnosis.rules.advice import DRAW_ALL, INSERT_NORMS
from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import (
    early,
    finite_records,
    held_layers,
    of_layer,
    typical,
    weighted_layers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence, StepRecord

Judged: TypeAlias = tuple[float, float, str, str]  # share, limit, why, layer

ABOUT = About(
    "FL101", "vanishing gradients", "vanishing",
    f"{DRAW_ALL}, with ELU in place of sigmoids and tanhs: "
    'fl.remedies.swap_activations(model, "sigmoid", "elu"), fl.remedies.swap_activations(model, "tanh", "elu"). Or, '
    f"with batches of 8 and more, {INSERT_NORMS}.",
    7,
)  # fmt: skip
# A healthy network of 8 to 20 layers keeps first and last gradient within a factor of 30 (deep tanh at Glorot, He ReLU:
# 0.05 to 3). Training at a thousandth moves the first layers a thousandth as far: a run of 1,000 steps is one step.
_GRADIENT = 1e-3
_OUTPUT = 0.03  # over He or Glorot layers outputs shrink by less than a factor of 4 in ten layers
_MILD = 6.0
_LOWEST = 4  # a quarter of the layers: queries and keys get little where a layer beside them gets all that comes


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """What reaches the far end in the first steps: gradients of the first layers, outputs of the last hidden ones.

    The largest gradient of the lowest quarter of the trainable layers is compared with the largest of all; the first
    sample is left out where there are more, because a zero output layer (Fixup) passes nothing down, once. The outputs
    of the last hidden layer are compared with those of the first: small weights shrink the signal on its way up, and
    every gradient with it.

    Layers that a factor holds back that started at zero (LoRA, ReZero, zero layers) are compared with each other alone:
    their gradients grow with that factor. The outputs of layers that start at zero say nothing.
    """
    layers, records = weighted_layers(evidence), finite_records(evidence)
    if len(layers) < 3:
        return (
            ABOUT.not_applicable(
                f"the model has {len(layers)} trainable layers with weights, too few for gradients to vanish."
            ),
        )
    held = held_layers(evidence, records)
    parts = (held, {layer.name for layer in evidence.layers} - held)
    judged = [
        *(_gradients([name for name in layers if name in part], early(records[1:] or records)) for part in parts),
        *(_outputs(evidence, part, early(records)) for part in parts),
    ]
    found = [entry for entry in judged if entry is not None]
    if not found:
        return (ABOUT.not_judged("no gradients were measured, or all of them are zero."),)
    share, limit, why, layer = min(found, key=lambda entry: entry[0] / entry[1])
    if share < limit:
        return (ABOUT.issue(why, share, limit, layer),)
    if share < limit * _MILD:
        return (ABOUT.tip(why, share, limit, layer),)
    return (ABOUT.passed(why, share, limit),)


def _gradients(layers: list[str], records: Sequence[StepRecord]) -> Judged | None:
    norms = {name: typical(of_layer(records, name, "gradient_norm")) for name in layers}
    known = {name: norm for name, norm in norms.items() if norm is not None}
    largest = max(known.values(), default=0.0)
    if largest == 0.0:
        return None
    lowest = list(known)[: max(1, len(known) // _LOWEST)]
    if known[lowest[0]] == 0.0:
        return None  # nothing at all comes through dead units or zero weights: other rules name those
    first, last = (max(names, key=lambda name: known[name]) for names in (lowest, known))
    share = known[first] / largest
    norms = f"({known[first]:.1e} against {largest:.1e})"
    which = f"layer {first!r} is" if len(lowest) == 1 else f"layers {lowest[0]!r} to {lowest[-1]!r} is at most"
    return share, _GRADIENT, f"the gradient norm of {which} {share:.0e} of that of layer {last!r} {norms}.", lowest[0]


def _outputs(evidence: Evidence, part: AbstractSet[str], records: Sequence[StepRecord]) -> Judged | None:
    inner = [layer for layer in evidence.layers if layer.has_weights and not layer.is_output and layer.name in part]
    hidden = [layer.name for layer in inner if not layer.starts_at_zero]
    sizes = {name: typical(of_layer(records, name, "deviation")) for name in hidden}
    known = [(name, size) for name, size in sizes.items() if size is not None]
    if len(known) < 3 or known[0][1] == 0.0:
        return None
    (first, size), (last, left) = known[0], known[-1]
    why = (
        f"the standard deviation of outputs shrinks from {size:.2g} in layer {first!r} to {left:.1g} in layer {last!r}."
    )
    return left / size, _OUTPUT, why, last
