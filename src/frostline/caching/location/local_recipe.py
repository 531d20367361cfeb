"""A recipe of a cache as a whole: its size and last use, and how its files are deleted."""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from frostline.caching.location.use import USE_LOCK, evictable, last_used
from frostline.caching.store.claims import CLAIM_NAME
from frostline.caching.store.manifest import MANIFEST_NAME
from frostline.caching.store.proofs import PROOF_NAME
from frostline.caching.store.shard_writer import MERGE_LOCK
from frostline.caching.store.shards import SHARD_NAME
from frostline.core import io
from frostline.core.io import disk_errors, names_in, remove, status
from frostline.core.locks import remove_unlocked
from frostline.core.new_files import is_temporary

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

FOLDERS = {
    "manifests": MANIFEST_NAME, "shards": SHARD_NAME, "set-aside": SHARD_NAME, "proofs": PROOF_NAME,
    "claims": CLAIM_NAME,
}  # fmt: skip


class StoredRecipe(Protocol):
    """A recipe that may be deleted, on this disk or in a store."""

    @property
    def name(self) -> str:
        """Its key."""
        ...

    def last_used(self) -> float:
        """When its rows were last used, in seconds since 1970."""
        ...

    def num_bytes(self) -> int:
        """Bytes of all its files."""
        ...

    def sizes(self, kind: str) -> dict[str, int]:
        """Bytes of each file in its folder of this kind."""
        ...

    def evictable(self) -> AbstractContextManager[bool]:
        """A context in which no fill of it begins; yields False if one is running, or its rows are in use."""
        ...

    def delete(self) -> int:
        """Delete it; returns bytes."""
        ...


@dataclass(frozen=True)
class LocalRecipe:
    """A recipe on this disk."""

    folder: Path

    @property
    def name(self) -> str:
        """Its key."""
        return self.folder.name

    def last_used(self) -> float:
        """When its rows were last used, in seconds since 1970."""
        return last_used(self.folder)

    def num_bytes(self) -> int:
        """Bytes of all its files."""
        with disk_errors("read", self.folder):
            return sum(_bytes_below(self.folder / name) for name in names_in(self.folder))

    def sizes(self, kind: str) -> dict[str, int]:
        """Bytes of each file in its folder of this kind; links and folders are left out."""
        with disk_errors("read", self.folder / kind):
            found = {name: status(self.folder / kind / name) for name in names_in(self.folder / kind)}
        return {name: own.st_size for name, own in found.items() if own is not None and stat.S_ISREG(own.st_mode)}

    def evictable(self) -> AbstractContextManager[bool]:
        """A context in which no fill of it begins; yields False if one is running, or a process maps its rows."""
        return evictable(self.folder)

    def delete(self) -> int:
        """Delete our files of it; returns bytes."""
        return delete_recipe(self.folder)


def delete_recipe(folder: Path) -> int:
    """Delete our files of a recipe and then the folders that are empty; returns bytes."""
    freed = 0
    for kind, names in FOLDERS.items():
        own = folder / kind
        with disk_errors("delete files in", own):
            for path in [own / name for name in names_in(own)]:
                size = _size_of(path)
                if is_temporary(path.name, names):  # one that is being written stays, and with it its folder
                    is_gone = remove_unlocked(path)
                else:
                    is_gone = names.fullmatch(path.name) is not None and not is_folder(path) and remove(path)
                freed += size if is_gone else 0
    for name in (MERGE_LOCK, USE_LOCK):
        with disk_errors("delete", folder / name):
            remove(folder / name)
    for empty in (*(folder / kind for kind in FOLDERS), folder):
        with suppress(OSError):  # somebody else's files are in it, or it is not there
            io.call(empty.rmdir)
    return freed


def _bytes_below(path: Path) -> int:
    return sum(_bytes_below(path / name) for name in names_in(path)) if is_folder(path) else _size_of(path)


def is_folder(path: Path) -> bool:
    """True for a folder, and False for a link to one."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _size_of(path: Path) -> int:
    """Bytes of a regular file; 0 for one that was deleted meanwhile."""
    found = status(path)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0
