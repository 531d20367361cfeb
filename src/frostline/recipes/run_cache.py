"""The cache of a run: the caller's own, that of the run's folder, or that in the user's cache home."""

from __future__ import annotations

import os
from pathlib import Path

from frostline.caching import FeatureCache


def cache_of(cache: bool | FeatureCache, out: Path | None) -> FeatureCache:
    """The cache that a run uses.

    Args:
        cache: As `fit` takes it; True chooses by `out`.
        out: The folder of the run, or None.
    """
    if isinstance(cache, FeatureCache):
        return cache
    if out is not None:
        return FeatureCache(out / "cache")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return FeatureCache(Path(home) / "frostline")
