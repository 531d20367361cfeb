"""All counterparts in one table."""

from __future__ import annotations

from . import convolutions, exported, flax_trees, graphs, images, sequences, small

COUNTERPARTS = {
    name: counterpart
    for part in (convolutions, images, sequences, small, graphs, exported, flax_trees)
    for name, counterpart in part.COUNTERPARTS.items()
}
