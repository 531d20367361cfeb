"""Where a cache lies: a folder, or a URL with a folder on this disk that holds copies of what is used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.caching.location.local_recipe import LocalRecipe, StoredRecipe, is_folder
from frostline.caching.location.remote import RECIPE, RemoteRecipe, bound_copies
from frostline.caching.store.opening import open_folder
from frostline.caching.store.proofs import Proofs
from frostline.caching.store.shards import Shards
from frostline.caching.store.sharing import Sharing, signer_of
from frostline.core.arguments import as_count, as_path
from frostline.core.errors import DataError
from frostline.core.io import disk_errors, names_in
from frostline.core.shelf import Shelf, is_url

if TYPE_CHECKING:
    from frostline.caching.store.opening import Opened
    from frostline.core.records import FrontierTensor

_LOCAL_BYTES = 50 * 10**9


class Location:
    """The place of a cache.

    Args:
        root: A folder, or a URL of fsspec.
        storage_options: For the backend of the URL.
        local_folder: Of the copies; None chooses one in the user's cache home.
        local_bytes: What copies may take; None is 50 GB.
        key_file: Of the key that signs the cache; None takes that of the environment, if there is one.

    Attributes:
        root: The folder on this disk: the cache itself, or the copies.
        shelf: The store; None for a folder.
        signer: Signs what is written, and refuses what it has not signed; None where no key is given.
    """

    def __init__(self, root: Any, storage_options: Any = None, local_folder: Any = None,
                 local_bytes: Any = None, key_file: Any = None) -> None:  # fmt: skip
        if not is_url(root):
            _check_unused(root, storage_options=storage_options, local_folder=local_folder,
                          local_bytes=local_bytes)  # fmt: skip
        elif storage_options is not None and not isinstance(storage_options, Mapping):
            raise DataError(
                what="storage_options are not a mapping.", where="FeatureCache(storage_options=...)",
                received=type(storage_options).__name__, do="pass a dict of what the fsspec backend takes.",
            )  # fmt: skip
        self._max_bytes = _LOCAL_BYTES if local_bytes is None else as_count("FeatureCache", "local_bytes", local_bytes)
        self.shelf = Shelf(str(root), storage_options) if is_url(root) else None
        if self.shelf is None:
            own = as_path("FeatureCache", "root", root)
        elif local_folder is not None:
            own = as_path("FeatureCache", "local_folder", local_folder)
        else:
            own = cache_home() / "remote" / hashlib.sha256(self.shelf.url.encode()).hexdigest()[:32]
        with disk_errors("find", own):  # the current folder may be gone
            self.root = own.absolute()  # here and now: a later chdir must not make it another one
        self.signer = signer_of(key_file, self.root)
        self._shards: dict[str, Shards] = {}  # a shard that this process has mapped is not read again

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}

    def __str__(self) -> str:
        return str(self.root) if self.shelf is None else self.shelf.url

    def proofs(self) -> Proofs:
        """The proofs that are kept on this disk, signed as the rows are."""
        return Proofs(self.root, self.signer)

    def bound_copies(self) -> None:
        """Delete copies until the folder keeps to its limit; mapped files stay."""
        if self.shelf is not None:
            bound_copies(self.root, self._max_bytes)

    def check_reached(self, where: str) -> None:
        """Raise if other processes cannot reach this cache.

        Args:
            where: The call that would have them fill it.

        Raises:
            DataError: If it lies in the memory of this process.
        """
        if self.shelf is not None and self.shelf.is_of_one_process:
            raise DataError(
                what="Several processes cannot fill this cache: it lies in the memory of one.", where=where,
                received=str(self), do="use a folder, or the URL of a store that all of them reach; or fill it in this "
                "process first, data = cache.fill(split, dataset, engine='local'), then fit(split.head, data, ...).",
            )  # fmt: skip

    def holds(self, recipe: str) -> bool:
        """Whether anything of this recipe is stored."""
        if self.shelf is None:
            return is_folder(self.root / recipe / "manifests")
        return bool(self.shelf.sizes(f"{recipe}/manifests"))

    def sharing(self, recipe: str) -> Sharing:
        """The remote folder of a recipe, if there is one, and the key that signs its files."""
        remote = None if self.shelf is None else RemoteRecipe(self.shelf, self.root / recipe)
        return Sharing(remote, self.signer)

    def shards(self, recipe: str) -> Shards:
        """The shards of a recipe; it need not be there yet."""
        if recipe not in self._shards:
            self._shards[recipe] = Shards(self.root / recipe / "shards", self.sharing(recipe))
        return self._shards[recipe]

    def opened(self, recipe: str, frontier: tuple[FrontierTensor, ...]) -> Opened:
        """What is stored of a recipe, checked against what its rows should be."""
        shards = self.shards(recipe)
        opened = open_folder(shards.folder.parent, shards, frontier)
        self.bound_copies()
        return opened

    def recipes(self, *kinds: str) -> list[StoredRecipe]:
        """Recipes that hold a folder of one of these kinds; of manifests, if none is named."""
        if self.shelf is not None:
            names = [name for name in self.shelf.sizes("") if RECIPE.fullmatch(name) and self.holds(name)]
            return [RemoteRecipe(self.shelf, self.root / name) for name in names]
        with disk_errors("list", self.root):
            folders = [self.root / name for name in names_in(self.root) if RECIPE.fullmatch(name)]
            owned = kinds or ("manifests",)
            return [LocalRecipe(own) for own in folders
                    if is_folder(own) and any(is_folder(own / kind) for kind in owned)]  # fmt: skip


def _check_unused(root: Any, **options: Any) -> None:
    """Raise if a folder is given an option that only caches under a URL take."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise DataError(
            what="This option is for a cache under a URL.", where=f"FeatureCache({given[0]}=...)",
            received=f"{given[0]} with the folder {str(root)[:200]!r}",
            do=f"leave {given[0]} out, or pass a URL such as s3://bucket/features as root.",
        )  # fmt: skip


def cache_home() -> Path:
    """The folder of Frostline in the user's cache home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frostline"
