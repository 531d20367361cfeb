"""All kinds of statements, by family."""

from __future__ import annotations

from . import batches, containers, functions, layers, noise, state, steering, writes

FAMILIES = {
    "layers": layers.KINDS,
    "functions": functions.KINDS,
    "writes": writes.KINDS,
    "batches": batches.KINDS,
    "steering": steering.KINDS,
    "state": state.KINDS,
    "noise": noise.KINDS,
    "containers": containers.KINDS,
}
__all__ = ["FAMILIES"]
