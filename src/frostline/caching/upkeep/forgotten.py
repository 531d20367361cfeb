"""Samples that are deleted for good: files with their rows are written anew without them, and deleted at once.

Legend: K keys, R rows of a shard.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.caching.keys import KEY_BYTES, item_key, offered_keys
from frostline.caching.location.remote import check_alone
from frostline.caching.samples.collation import Collated
from frostline.caching.samples.dataset_reader import Reader
from frostline.caching.samples.views import viewed
from frostline.caching.store.manifest import read_contents
from frostline.caching.store.manifest_writer import delete_manifests, write_manifest
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.opening import open_folder
from frostline.caching.store.ragged import chosen_rows
from frostline.caching.store.shard_writer import MERGE_LOCK
from frostline.caching.store.shards import SHARD_NAME, Shards
from frostline.core.errors import CacheError
from frostline.core.inputs import LABEL_KEYS
from frostline.core.io import disk_errors, names_in, remove
from frostline.core.item_form import ItemForm
from frostline.core.locks import held, remove_unlocked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.caching.store.opening import Opened

_WAIT_S = 60.0  # for another merge


class Forgotten:
    """The samples of a dataset, which shall be deleted.

    Args:
        dataset: A map-style dataset, as it was filled; one that offers no keys is read.
        views: As it was filled.
        collate_fn: As it was filled.
    """

    def __init__(self, dataset: Any, views: int | None, collate_fn: Any) -> None:
        samples = dataset if collate_fn is None else Collated(dataset, collate_fn)
        self._dataset = viewed(samples, "forget", views)
        self._keys: dict[frozenset[str], set[bytes]] = {}

    def delete_from(self, shards: Shards) -> int:
        """Delete the rows of these samples from the folder of a recipe, with every file that holds one of them.

        A process that has a file mapped keeps it until it closes the file. A fill of the same samples that is under way
        may store them again.

        Returns:
            How many rows were deleted.

        Raises:
            CacheError: If the folder cannot be read or written, or another process does not end its merge.
        """
        folder = shards.folder.parent
        with held(folder / MERGE_LOCK, wait_s=_WAIT_S) as is_alone, ExitStack() as hold:
            if not is_alone:
                raise CacheError(
                    what="Another process rewrites this part of the cache.", where=str(folder),
                    received=f"a merge that did not end within {_WAIT_S:.0f} s",
                    do="run again when its fill has ended.",
                )  # fmt: skip
            # A key that is damaged would hide its row: the file is set aside, and deleted with those.
            opened = open_folder(folder, Shards(shards.folder, shards.sharing), checks_all=True)
            if opened.sharing.remote is not None:
                check_alone(opened.sharing.remote)
            keys = self._keys_for(opened)
            found = {name: _rows_with(opened, name, keys) for name in opened.manifest.shards}
            affected = {name: is_gone_R for name, is_gone_R in found.items() if is_gone_R.any()}
            snapshots = {name for name in opened.manifest.snapshots if _rows_with(opened, name, keys).any()}
            if affected or snapshots:
                _publish(opened, affected, snapshots, hold)
            _delete_others(opened)
        return int(sum(is_gone_R.sum() for is_gone_R in affected.values()))

    def _keys_for(self, opened: Opened) -> set[bytes]:
        """The keys of the samples, as a fill of this recipe makes them: labels may be inputs of its model."""
        names = {str(tensor[0]) for tensor in opened.manifest.tensors}
        keep = frozenset(key for key in LABEL_KEYS if f"input.{key}" in names)
        if hasattr(self._dataset, "sample_key"):
            keep = frozenset[str]()
        if keep not in self._keys:
            self._keys[keep] = set(_keys_of(self._dataset, keep))
        return self._keys[keep]


def _keys_of(dataset: Any, keep: frozenset[str]) -> list[bytes]:
    if hasattr(dataset, "sample_key"):
        return [key.tobytes() for _, keys in offered_keys(dataset) for key in keys]
    read = Reader(dataset, ItemForm(keep), 0).read(range(len(dataset)))
    return [item_key(inputs, at) for at, (inputs, _) in enumerate(read)]


def _rows_with(opened: Opened, name: str, keys: set[bytes]) -> NDArray[np.bool_]:
    """(R,) of a shard: whether its row belongs to one of these keys."""
    stored = opened.held[name].get(KEYS)
    if stored is None:
        return np.zeros(0, np.bool_)
    whole = stored.contiguous().numpy().tobytes()
    return np.array([whole[at : at + KEY_BYTES] in keys for at in range(0, len(whole), KEY_BYTES)], np.bool_)


def _publish(opened: Opened, affected: dict[str, NDArray[np.bool_]], snapshots: set[str], hold: ExitStack) -> None:
    """Write the rows that stay, then one manifest without the others, and delete those before it."""
    contents = read_contents(opened.manifests, opened.sharing)
    rows, replaced = contents.manifest.rows_of(), [*contents.manifest.replaced]
    for name, is_gone_R in affected.items():
        kept = torch.from_numpy(np.nonzero(~is_gone_R)[0])
        new = (opened.shards.write(chosen_rows(opened.held[name], kept), hold),) if len(kept) else ()
        replaced.append((name, new))
        rows.pop(name, None)
        rows.update(dict.fromkeys(new, len(kept)))
    kept_snapshots = tuple(name for name in contents.manifest.snapshots if name not in snapshots)
    whole = replace(
        contents.manifest,
        shards=tuple(rows),
        rows=tuple(rows.values()),
        snapshots=kept_snapshots,
        replaced=tuple(replaced),
        evicted=(*contents.manifest.evicted, *affected, *snapshots),  # a second try knows them, if this one is killed
    )
    written = write_manifest(opened.manifests, whole, opened.sharing)
    with disk_errors("delete files in", opened.manifests):
        delete_manifests(opened.manifests, [name for name in contents.files if name not in written], opened.sharing)


def _delete_others(opened: Opened) -> None:
    """Delete shards that are not needed, however young, and those that were set aside.

    One that no manifest has named may be what another process is writing: then it is locked.
    """
    contents = read_contents(opened.manifests, opened.sharing)
    shards, aside = opened.folder / "shards", opened.folder / "set-aside"
    needed = set(contents.manifest.names())
    with disk_errors("delete files in", opened.folder):
        for name in names_in(shards):
            if not SHARD_NAME.fullmatch(name) or name in needed:
                continue
            if name in contents.listed:
                remove(shards / name)
            else:
                with suppress(FileNotFoundError):
                    remove_unlocked(shards / name)
        if opened.sharing.remote is not None:
            opened.sharing.remote.delete_dead(needed, contents.listed)
        for name in names_in(aside):
            if SHARD_NAME.fullmatch(name):
                remove(aside / name)
