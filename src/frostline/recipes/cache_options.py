"""How the features of a run are stored, as the options of `fit` say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.caching import EXACT, CachedDataset, FeatureCache, check_storage
from frostline.core.arguments import as_frozen_pass, as_path
from frostline.core.errors import DataError
from frostline.core.shelf import is_url

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class CacheOptions:
    """How the features of a run are stored.

    Attributes:
        cache: True for the cache of the run, a cache of one's own, or False for none.
        is_planned: Store what costs least, or nothing where training is quicker without a cache.
        storage: How features lie on the disk.
        frozen_pass: Names of the faster passes, as `FeatureCache.fill` takes them.
    """

    cache: bool | FeatureCache
    is_planned: bool
    storage: str
    frozen_pass: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """True if the features that are stored are those that the model computes, to the bit."""
        return not self.described

    @property
    def of_setup(self) -> dict[str, Any]:
        """What the setup of a run takes of them, beside the cache."""
        return {"is_planned": self.is_planned, "storage": self.storage, "frozen_pass": self.frozen_pass}

    @property
    def described(self) -> dict[str, str]:
        """What a resumed run must have as well, where it is not as usual."""
        text = {"storage": self.storage if self.storage != EXACT else "", "frozen pass": " ".join(self.frozen_pass)}
        return {name: own for name, own in text.items() if own}


def cache_options(cache: bool | str | Path | FeatureCache, storage: Any, frozen_pass: Any, train: Any) -> CacheOptions:
    """The options as `fit` takes them, checked.

    Raises:
        DataError: If one cannot be used, or is for a fill and this run fills no cache.
    """
    is_planned = isinstance(cache, str) and cache == "auto"
    if not isinstance(cache, (bool, FeatureCache)):
        cache = is_planned or FeatureCache(cache if is_url(cache) else as_path("fit", "cache", cache))
    options = CacheOptions(cache, is_planned, check_storage("fit", storage), as_frozen_pass("fit", frozen_pass))
    if cache is False or isinstance(train, CachedDataset):
        _refuse_options_of_a_fill(options, storage, frozen_pass)
    return options


def _refuse_options_of_a_fill(options: CacheOptions, storage: Any, frozen_pass: Any) -> None:
    """Raise if an option asks for a fill in another way, in a run that has none."""
    features = "cache=False" if options.cache is False else "cached features"
    if options.is_planned:
        raise DataError(
            what="These features are already cached: there is nothing to choose.", where="fit(cache='auto')",
            received=f"cache='auto' with {features}",
            do="leave cache out, or pass the whole model and the dataset; of a split of your own, Split.plan and "
            "Split.follow choose what a fill stores.",
        )  # fmt: skip
    if options.storage != EXACT:
        raise DataError(
            what="There are no features to round: this run fills no cache.", where="fit(storage=...)",
            received=f"{storage!r} with {features}",
            do="leave storage out, or pass the dataset with cache=True; cached features take it in FeatureCache.fill. "
            "A run of rounded features is resumed with a cache: without one it would go on with others.",
        )  # fmt: skip
    if options.frozen_pass:
        raise DataError(
            what="There is no frozen pass to make faster: this run fills no cache.", where="fit(frozen_pass=...)",
            received=f"{frozen_pass!r} with {features}",
            do="leave frozen_pass out, or pass the dataset with cache=True; cached features take it in "
            "FeatureCache.fill.",
        )  # fmt: skip
