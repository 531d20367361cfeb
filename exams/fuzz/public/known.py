"""Faults that are known and not mended yet: (door, kind) with the smallest call and the reason.

A test forces this list to shrink: an entry that no longer fails must go.
"""

from __future__ import annotations

KNOWN: dict[tuple[str, str], tuple[str, str]] = {
    ("heal", "RuntimeError"): (
        "heal(ambient=float64)",
        "torch's own unscaling wants float32, and the default dtype of the caller enters `heal`",
    ),
    ("checkup", "RuntimeError"): ("checkup(batches=no samples)", "batches without samples reach the score"),
    ("Monitor", "RuntimeError"): (
        "Monitor(model=scripted)",
        "a scripted module takes no hooks, and the error is torch's",
    ),
}
