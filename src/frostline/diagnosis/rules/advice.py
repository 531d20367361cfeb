"""What findings advise to call. Every call is written so that it runs where the finding is met.

In these texts `model`, `optimizer` and `loader` (batches of training data) are those of the reader.
"""

from __future__ import annotations

ROOT = "(the model)"  # the name of a layer that is itself the model
_IF_NEW = "if no layer is trained yet (no pretrained weights, no epochs behind it)"
DRAW_ALL_NOW = "fl.remedies.initialize(model, include_pretrained=True, optimizer=optimizer)"
DRAW_ALL = f"{_IF_NEW}, draw the weights anew: {DRAW_ALL_NOW}"
INSERT_NORMS = (
    'put BatchNorm before the activations: fl.remedies.insert_batchnorm(model, loader, start="normalised", '
    "optimizer=optimizer)"
)
LEAKY = 'swap ReLU for Leaky ReLU: fl.remedies.swap_activations(model, "relu", "leaky_relu")'
REESTIMATE = "estimate the statistics over the whole training set: fl.remedies.reestimate_batchnorm(model, loader)"
LEAVE_OUT = (
    "until then leave such steps out, as every clip does: fl.remedies.clip_by_norm(1e30)(model.parameters()) between "
    "backward() and optimizer.step()"
)


def draw(layer: str) -> str:
    """New weights for one layer."""
    if layer == ROOT:
        return DRAW_ALL_NOW
    return f"fl.remedies.initialize(model, layers={layer!r}, optimizer=optimizer)"
