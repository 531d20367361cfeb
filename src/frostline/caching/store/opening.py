"""Opens the folder of a recipe: whole shards are used, damaged ones are set aside and reported."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frostline.caching.store.claims import sweep_claims
from frostline.caching.store.collector import collect
from frostline.caching.store.manifest import (
    MANIFEST_NAME,
    Manifest,
    manifest_names,
    read_newest,
    with_snapshot,
    without_shards,
)
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.mapped_shard import ASIDE, WRONG_CONTENT, Shard, identity, set_aside
from frostline.caching.store.rows import Rows
from frostline.caching.store.shards import SHARD_NAME, Shards, check_rows
from frostline.core.errors import CacheError
from frostline.core.io import Damaged, check_folder, disk_errors, make_folder, status
from frostline.core.new_files import sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from frostline.caching.store.sharing import Sharing
    from frostline.core.records import FrontierTensor

# Smaller caches are checked when they are opened, a third of a second; of larger ones each shard on its first use.
_CHECKED_AT_ONCE = 256 * 2**20
_TRIES = 20  # a shard that went while it was opened was replaced by others: the manifests are read again


@dataclass
class Opened:
    """The folder of one recipe.

    Attributes:
        folder: Its path.
        shards: The mapped shards; one instance for everything that happens in this process.
        frontier: What a row must consist of.
        manifest: What the folder holds, whole shards only.
        notes: What was found damaged.
        held: The shards that the manifest names, by name: mapped at once, so that the collector leaves them.
        checks_all: Digests are compared at once, also those of many gigabytes on this disk.
        written: Names of the manifests that this builder has written.
    """

    folder: Path
    shards: Shards
    frontier: tuple[FrontierTensor, ...] = ()
    manifest: Manifest = field(default_factory=Manifest)
    notes: list[str] = field(default_factory=list[str])
    held: dict[str, Shard] = field(default_factory=dict[str, Shard])
    checks_all: bool = False
    written: set[str] = field(default_factory=set[str])
    _listed: set[str] = field(default_factory=set[str])

    @property
    def manifests(self) -> Path:
        """The folder of the manifests."""
        return self.folder / "manifests"

    @property
    def sharing(self) -> Sharing:
        """The remote folder of the recipe, and the key that signs its files."""
        return self.shards.sharing

    @property
    def text(self) -> str:
        """Where the rows lie: a folder, or the address in a store."""
        return str(self.folder) if self.sharing.remote is None else self.sharing.remote.text

    def rows(self) -> Rows:
        """An index over all rows."""
        return Rows(self.shards, self.manifest.shards, [self.held[name] for name in self.manifest.shards])

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The frontier tensors as a manifest lists them."""
        return tuple([t.name, list(t.shape), str(t.dtype), t.shared] for t in self.frontier)

    def shared(self) -> dict[str, Tensor]:
        """Shared tensors by name."""
        return dict(self.held[self.manifest.shared]) if self.manifest.shared else {}

    def num_bytes(self) -> int:
        """Bytes of the rows on disk, those of other datasets of the same recipe included."""
        with disk_errors("read", self.folder):
            found = [status(self.shards.path(name)) for name in self.manifest.shards]
        return sum(own.st_size for own in found if own)

    def refresh(self) -> None:
        """Read the manifests again, and open every shard that counts; what is damaged is set aside.

        Raises:
            CacheError: If the folder, a manifest or a shard cannot be read now.
        """
        for _ in range(_TRIES):
            self._listed = self._names_now()
            _, self.manifest, notes = read_newest(self.manifests, self.sharing)
            self._note(notes)
            self.shards.forget_changed()
            damaged = self._damaged()
            if not damaged:
                return
            again = read_newest(self.manifests, self.sharing)[1]
            if set(damaged) <= set(again.names()):  # else a merge replaced them meanwhile
                self._leave_out(damaged)
                return

    def has_news(self) -> bool:
        """Whether somebody else has published a manifest since the manifests were read."""
        return not self._names_now() <= self._listed | self.written

    def _names_now(self) -> set[str]:
        remote = self.sharing.remote
        return set(manifest_names(self.manifests) if remote is None else remote.sizes("manifests"))

    def publish_snapshot(self, tensors: dict[str, Tensor], shared: dict[str, Tensor]) -> None:
        """Remember inputs of a dataset's samples, and the shared tensors; what is known is not written again.

        Raises:
            CacheError: If the folder cannot be written.
        """
        with ExitStack() as hold:
            common = self.shards.write(shared, hold) if shared else None
            name = self.shards.write(tensors, hold) if tensors else None
            is_last = name is None or self.manifest.snapshots[-1:] == (name,)
            if common in (None, self.manifest.shared) and is_last:
                return
            names = self.tensors
            added = with_snapshot(Manifest(), name, common, names) if name else Manifest(shared=common, tensors=names)
            write_manifest(self.manifests, added, self.sharing)

    def collect(self) -> None:
        """Close what no longer counts, and let the collector delete what no other process has mapped."""
        self.held = {}
        self.shards.keep_only(set(self.manifest.names()))
        collect(self.folder, self.sharing)

    def _damaged(self) -> dict[str, str]:
        """The damage of each damaged shard, by its name."""
        stored = {t.name: (t.dtype, tuple(t.shape)) for t in self.frontier if not t.is_input and not t.shared}
        rows, found = self.manifest.rows_of(), dict[str, str]()
        self.held = {}
        is_lazy = self._is_large()
        if not is_lazy:
            self.shards.bring_all(self.manifest.names())
        for name in self.manifest.names():
            try:
                shard = self.shards.open(name, is_lazy=is_lazy)
                if name in rows and self.frontier:
                    check_rows(shard.path, shard.unchecked, stored, rows[name])
                self.held[name] = shard
            except Damaged as error:
                found[name] = error.received
        is_small = sum(shard.num_bytes for shard in self.held.values()) <= _CHECKED_AT_ONCE
        if is_small or (self.checks_all and self.sharing.remote is None):  # else each on its first use
            found |= {name: WRONG_CONTENT for name, shard in [*self.held.items()] if not self._is_whole(name, shard)}
        return found

    def _is_large(self) -> bool:
        """Whether a store holds so much that shards are fetched when their rows are used, and not at once."""
        # The index of rows of differing length is made of their shapes, which lie behind the keys.
        if self.sharing.remote is None or any(tensor.is_varying for tensor in self.frontier):
            return False
        sizes = self.sharing.remote.sizes("shards")
        return sum(sizes.get(name, 0) for name in self.manifest.names()) > _CHECKED_AT_ONCE

    def _is_whole(self, name: str, shard: Shard) -> bool:
        """Whether the content has the digest in the name; a copy that has not is fetched anew."""
        if not shard.is_whole() and self.sharing.remote is not None:
            self._set_aside(name, "")
            with suppress(Damaged):
                shard = self.held[name] = self.shards.open(name)
        return shard.is_whole()

    def _leave_out(self, damaged: dict[str, str]) -> None:
        for name, received in damaged.items():
            is_moved = self._set_aside(name, received)
            if self.sharing.remote is not None:
                self.sharing.remote.set_aside(name)
            verb = "was set aside" if is_moved else "is left out"
            self._note([f"shard {name[:12]} {verb}: {received.removesuffix(ASIDE)}; its rows are computed anew"])
        gone = tuple((name, ()) for name in damaged if self._is_gone(name))
        with suppress(CacheError):  # a disk that is full or read-only: the next opening tries again
            if gone:
                write_manifest(self.manifests, Manifest(replaced=gone), self.sharing)
        self.manifest = without_shards(self.manifest, damaged)

    def _set_aside(self, name: str, received: str) -> bool:
        """Move a damaged file out of the way, if it is there and was not moved when it was found."""
        self.shards.close(name)
        self.held.pop(name, None)
        path = self.shards.path(name)
        return received.endswith(ASIDE) or set_aside(path, identity(path))

    def _is_gone(self, name: str) -> bool:
        with suppress(OSError, CacheError):
            remote = self.sharing.remote
            return status(self.shards.path(name)) is None and (remote is None or name not in remote.shard_names())
        return False

    def _note(self, notes: Sequence[str]) -> None:
        self.notes += [note for note in notes if note not in self.notes]


def open_folder(
    folder: Path, shards: Shards, frontier: tuple[FrontierTensor, ...] = (), *, checks_all: bool = False
) -> Opened:  # fmt: skip
    """Open the folder of a recipe, and make it if it is not there: what cannot be written is known before the pass.

    Raises:
        CacheError: If it cannot be read, or not made.
    """
    for own, names in ((folder / "shards", SHARD_NAME), (folder / "manifests", MANIFEST_NAME)):
        check_folder(folder)
        check_folder(own)
        make_folder(own)
        sweep(own, names)
    sweep_claims(folder / "claims")
    opened = Opened(folder, shards, frontier, checks_all=checks_all)
    opened.refresh()
    return opened
