"""Opens the folder of a recipe for a fill: what is whole is used, what is damaged is set aside, and said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from frostline.caching.manifests import Manifest, publish, read_newest, without_shard
from frostline.caching.shards import Shards
from frostline.core.errors import CacheError
from frostline.core.io import disk_errors, make_folder, sweep

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass
class Opened:
    """The folder of one recipe.

    Attributes:
        folder: Its path.
        shards: The mapped shards; one instance for everything that happens in this process.
        manifest: The newest whole manifest, with whole shards only.
        notes: What was found damaged.
    """

    folder: Path
    shards: Shards
    manifest: Manifest = field(default_factory=Manifest)
    notes: list[str] = field(default_factory=list[str])

    def shared(self) -> dict[str, Tensor]:
        """Shared tensors by name."""
        return dict(self.shards.open(self.manifest.shared)) if self.manifest.shared else {}

    def snapshots(self) -> list[dict[str, Tensor]]:
        """Tensors of the snapshots that are kept, oldest first."""
        return [self.shards.open(name) for name in self.manifest.snapshots]

    def num_bytes(self) -> int:
        """Bytes of the rows on disk, those of other datasets of the same recipe included."""
        return sum(self.shards.path(name).stat().st_size for name in self.manifest.shards)


def open_folder(folder: Path, shards: Shards) -> Opened:
    """Make or open the folder of a recipe.

    Raises:
        CacheError: If it cannot be read or written.
    """
    for name in ("shards", "manifests"):
        make_folder(folder / name)
        sweep(folder / name)
    _, manifest, notes = read_newest(folder / "manifests")
    opened = Opened(folder, shards, manifest, list(notes))
    shards.forget_changed()
    for name in manifest.names():
        try:
            shards.open(name)
        except CacheError as error:
            opened.notes.append(f"shard {name[:12]} was set aside: {error.received}; its rows are computed anew")
            _set_aside(folder, name)
            opened.manifest = publish(folder / "manifests", lambda old, bad=name: _without(old, bad))
    return opened


def _set_aside(folder: Path, name: str) -> None:
    make_folder(folder / "set-aside")
    path = folder / "shards" / name
    with disk_errors("set aside", path):
        if path.exists() or path.is_symlink():
            path.rename(folder / "set-aside" / name)


def _without(manifest: Manifest, name: str) -> Manifest:
    kept = without_shard(manifest, name)
    return replace(
        kept,
        shared=None if kept.shared == name else kept.shared,
        snapshots=tuple(snapshot for snapshot in kept.snapshots if snapshot != name),
    )
