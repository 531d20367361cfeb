"""How the features of a run are stored, as the options of `fit` say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.caching import CachedDataset, FeatureCache, check_storage
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
    def described(self) -> dict[str, str]:
        """What a resumed run must have as well, where it is not as usual."""
        text = {"storage": self.storage if self.storage != "exact" else "", "frozen pass": " ".join(self.ways)}
        return {name: own for name, own in text.items() if own}


def cache_options(cache: bool | str | Path | FeatureCache, storage: Any, frozen_pass: Any, train: Any) -> CacheOptions:
    """The options as `fit` takes them, checked.

    Raises:
        DataError: If one is none, or there is no frozen pass to make faster.
    """
    is_planned = isinstance(cache, str) and cache == "auto"
    if not isinstance(cache, (bool, FeatureCache)):
        cache = is_planned or FeatureCache(as_path("fit", "cache", cache))
    return CacheOptions(cache, is_planned, check_storage("fit", storage), _ways(frozen_pass, cache, train))


def _ways(given: Any, cache: bool | FeatureCache, train: Any) -> tuple[str, ...]:
    """How the frozen pass is run.

    Raises:
        DataError: If there is none.
    """
    ways = as_frozen_pass("fit", given)
    if ways and (cache is False or isinstance(train, CachedDataset)):
        raise DataError(
            what="There is no frozen pass to make faster: this run fills no cache.", where="fit(frozen_pass=...)",
            received=f"{given!r} with {'cache=False' if cache is False else 'cached features'}",
            do="leave frozen_pass out, or pass the dataset with cache=True; cached features take it in "
            "FeatureCache.fill.",
        )  # fmt: skip
    return ways
