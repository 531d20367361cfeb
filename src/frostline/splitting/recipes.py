"""The recipe of a frozen part: what makes a stored feature valid, as text."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.splitting.frontier import Frontier
    from frostline.splitting.omitted_noise import Quiet

# Raise it when what `callog` writes changes its meaning.
_SCHEMA = "2"


def make_recipe(log: Sequence[str], frontier: Frontier, quiet: Quiet) -> Mapping[str, str]:
    """The recipe from the log of the frozen calls.

    In it: the calls in order with scalar arguments, shapes and code; the digests of every parameter, buffer and
    constant that they read; what is stored. Not in it: the head, paths, names of files, versions.

    Args:
        log: The calls of the run in inference mode at the smaller batch size; and of one in training mode, if features
            are made only there.
        frontier: What is stored.
        quiet: Noise that was turned off.
    """
    stored = [
        f"{entry.tensor.name} {entry.tensor.shape} {entry.tensor.dtype} {entry.layout} {entry.from_training}"
        for entry in frontier.entries
    ]
    return MappingProxyType(
        {
            "schema": _SCHEMA,
            "calls": calls_digest(log),
            "stored": "; ".join(stored),
            "mode": "inference",
            "quiet": "; ".join(sorted(map(str, quiet))),
        }
    )


def calls_digest(log: Sequence[str]) -> str:
    """SHA-256 of the log of the frozen calls."""
    return hashlib.sha256("\n".join(log).encode()).hexdigest()
