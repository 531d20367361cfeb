"""The cache of a run: the caller's own, that of the run's folder, or that in the user's cache home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.caching import FeatureCache, cache_home

if TYPE_CHECKING:
    from pathlib import Path


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
    return FeatureCache(cache_home())
