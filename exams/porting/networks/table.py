"""All counterparts in one table."""

from __future__ import annotations

from . import (
    checkpoints,
    convolutions,
    exported,
    flax_trees,
    graphs,
    images,
    paddle_layers,
    perceptrons,
    published,
    rarer,
    sequences,
    small,
)

COUNTERPARTS = {
    name: counterpart
    for part in (
        convolutions,
        images,
        sequences,
        small,
        graphs,
        exported,
        flax_trees,
        paddle_layers,
        perceptrons,
        checkpoints,
        published,
        rarer,
    )
    for name, counterpart in part.COUNTERPARTS.items()
}
