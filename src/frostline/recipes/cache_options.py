"""How the features of a run are stored, as the options of `fit` say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.caching import EXACT, CachedDataset, FeatureCache, check_storage
from frostline.core.arguments import as_frozen_pass, as_path
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class CacheOptions:
    """How the features of a run are stored.

    Attributes:
        cache: True for the cache of the run, a cache of one's own, or False for none.
        is_planned: Store what costs least, or nothing where training is quicker without a cache.
        storage: How features lie on the disk.
        ways: Of a faster frozen pass.
    """

    cache: bool | FeatureCache
    is_planned: bool
    storage: str
    ways: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """True if the features that are stored are those that the model computes, to the bit."""
        return not self.described

    @property
    def described(self) -> dict[str, str]:
        """What a resumed run must have as well, where it is not as usual."""
        text = {"storage": self.storage if self.storage != EXACT else "", "frozen pass": " ".join(self.ways)}
        return {name: own for name, own in text.items() if own}


def cache_options(cache: bool | str | Path | FeatureCache, storage: Any, frozen_pass: Any, train: Any) -> CacheOptions:
    """The options as `fit` takes them, checked.

    Raises:
        DataError: If one is none, or nothing is stored, and no frozen pass run, that they could change.
    """
    is_planned = isinstance(cache, str) and cache == "auto"
    if not isinstance(cache, (bool, FeatureCache)):
        cache = is_planned or FeatureCache(as_path("fit", "cache", cache))
    ways = as_frozen_pass("fit", frozen_pass)
    fills = cache is not False and not isinstance(train, CachedDataset)
    if check_storage("fit", storage) != EXACT and not fills:
        raise DataError(
            what="There are no features to store: this run fills no cache.", where="fit(storage=...)",
            received=f"{storage!r} with {_without(cache)}",
            do="leave storage out, or pass the dataset with cache=True; cached features take it in FeatureCache.fill. "
            "A run of rounded features is resumed with a cache: without one it would go on with others.",
        )  # fmt: skip
    if ways and not fills:
        raise DataError(
            what="There is no frozen pass to make faster: this run fills no cache.", where="fit(frozen_pass=...)",
            received=f"{frozen_pass!r} with {_without(cache)}",
            do="leave frozen_pass out, or pass the dataset with cache=True; cached features take it in "
            "FeatureCache.fill.",
        )  # fmt: skip
    return CacheOptions(cache, is_planned, storage, ways)


def _without(cache: bool | FeatureCache) -> str:
    return "cache=False" if cache is False else "cached features"
