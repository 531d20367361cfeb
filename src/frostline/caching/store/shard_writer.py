"""Publishes computed rows shard by shard, and leaves few shards behind.

Legend: B batch.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frostline.caching.store.manifest import Manifest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.ragged import chosen_rows
from frostline.core.locks import held

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.caching.store.opening import Opened
    from frostline.caching.store.rows import Rows
    from frostline.caching.store.storage_type import Storage

# The writer holds a shard in memory, and time bounds what a kill loses.
SHARD_BYTES = 512 * 2**20
_SHARD_SECONDS = 30.0  # a kill loses at most one shard: a slow model publishes more often than its size asks for
_MAX_SMALL = 32  # so many small shards of other fills may stay; each is a map of everybody who reads
MERGE_LOCK = "merge.lock"
_WAIT_S = 60.0  # for another merge: after that this one is left out, and some rows may be stored twice for a while


class ShardWriter:
    """Collects rows, and publishes a shard when there is enough, or enough time has passed.

    Args:
        opened: The recipe's folder.
        before_publish: Called before every shard: what is stored is proven before more is added.
        row_seconds: Seconds of one row, as measured by now.
        views: Of each sample.
        storage: How the rows are rounded; None: not at all.
    """

    def __init__(
        self, opened: Opened, before_publish: Callable[[], None], row_seconds: Callable[[], float] = lambda: 0.0,
        views: int = 1, storage: Storage | None = None,
    ) -> None:  # fmt: skip
        self._rounding = (lambda: (storage.kind, storage.error)) if storage is not None else (lambda: ("exact", 0.0))
        self.shards, self.manifests, self.before_publish = opened.shards, opened.manifests, before_publish
        self.row_seconds, self.views, self.tensors = row_seconds, views, opened.tensors
        self._written = opened.written
        self._keys: list[Tensor] = []
        self._rows: dict[str, list[Tensor]] = {}
        self._bytes, self._since = 0, time.monotonic()
        self.published: list[str] = []

    def add(self, keys: Tensor, rows: dict[str, Tensor]) -> None:
        """Add rows with their keys (B, 16)."""
        self._keys.append(keys)
        for name, tensor in rows.items():
            self._rows.setdefault(name, []).append(tensor)
            self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes >= SHARD_BYTES or time.monotonic() - self._since >= _SHARD_SECONDS:
            self._flush()

    @property
    def is_holding(self) -> bool:
        """Whether rows are not published yet."""
        return bool(self._keys)

    def finish(self) -> None:
        """Publish the rows that are left."""
        self._flush()

    def _flush(self) -> None:
        if not self._keys:
            return
        self.before_publish()
        keys, (kind, error) = torch.cat(self._keys), self._rounding()
        with ExitStack() as hold:
            name = self.shards.write({KEYS: keys} | {n: torch.cat(r) for n, r in self._rows.items()}, hold)
            added = Manifest(
                shards=(name,), rows=(len(keys),), tensors=self.tensors, row_s=self.row_seconds(), views=self.views,
                storage=kind, error=error,
            )  # fmt: skip
            self._written.update(write_manifest(self.manifests, added, self.shards.sharing))
        self.published.append(name)
        self._keys, self._rows, self._bytes, self._since = [], {}, 0, time.monotonic()


def merge(opened: Opened, own: list[str]) -> bool:
    """Write the rows of small shards, and of shards with rows that are stored twice, into few; publish these.

    Nothing is deleted: readers of the old shards go on, and an index finds the same rows in the new ones.

    Args:
        opened: The recipe's folder, as it is now.
        own: Shards of this fill; those of others are merged only where they are many.

    Returns:
        False if there was nothing to do, or another process would not end its merge.
    """
    # a disk without locks lets two merge at once, which costs work and loses nothing
    with held(opened.folder / MERGE_LOCK, wait_s=_WAIT_S) as is_alone, ExitStack() as hold:
        if not is_alone:
            return False
        opened.refresh()
        rows = opened.rows()
        doubles = _Doubles(rows)
        chosen = _to_rewrite(rows, doubles, own)
        if not chosen:
            return False
        new, counts, place = _rewritten(opened, rows, chosen, doubles, hold)
        replaced: list[tuple[str, tuple[str, ...]]] = []
        for at in [at for at in chosen if rows.names[at] not in new]:
            owners = sorted(doubles.owners(at) | ({at} & place.keys()))
            by = dict.fromkeys(new[place[owner]] if owner in place else rows.names[owner] for owner in owners)
            replaced.append((rows.names[at], tuple(by)))  # where its own rows are, and no more: thousands may merge
        merged = Manifest(shards=tuple(new), rows=tuple(counts), replaced=tuple(replaced))
        write_manifest(opened.manifests, merged, opened.sharing)
        return True


class _Doubles:
    """The rows whose keys other rows keep."""

    def __init__(self, rows: Rows) -> None:
        self._starts = rows.starts
        self._rows, self._owners = rows.doubles()

    def owners(self, shard: int) -> set[int]:
        """The shards that keep keys of this one."""
        return set(self._owners[self._part(shard)].tolist())

    def kept(self, shard: int) -> Tensor:
        """The rows of a shard that keep their key."""
        first, stop = self._starts[shard], self._starts[shard + 1]
        return torch.from_numpy(np.delete(np.arange(stop - first), self._rows[self._part(shard)] - first))

    def _part(self, shard: int) -> slice:
        return slice(*np.searchsorted(self._rows, self._starts[shard : shard + 2]))


def _to_rewrite(rows: Rows, doubles: _Doubles, own: list[str]) -> list[int]:
    """Numbers of the shards with double rows, and of small ones: those of this fill, those of others where many."""
    sizes = [_num_bytes(shard.unchecked) for shard in rows.mapped]
    double = [at for at in range(len(sizes)) if doubles.owners(at)]
    is_small = [size <= SHARD_BYTES // 2 for size in sizes]
    are_many = sum(is_small) > _MAX_SMALL
    small = [at for at, name in enumerate(rows.names) if is_small[at] and (are_many or name in own)]
    return sorted({*double, *(small if len(small) > 1 else ())})


def _rewritten(
    opened: Opened, rows: Rows, chosen: list[int], doubles: _Doubles, hold: ExitStack
) -> tuple[list[str], list[int], dict[int, int]]:
    """New shards with every first row of the chosen ones, each as large as a shard may be.

    Returns:
        Their names, the rows of each, and for each chosen shard that has first rows, which new one holds these.
    """
    names: list[str] = []
    counts: list[int] = []
    place: dict[int, int] = {}
    group: list[dict[str, Tensor]] = []
    size = 0

    def write() -> None:
        if group:
            tensors = {key: torch.cat([part[key] for part in group]) for key in group[0]}
            names.append(opened.shards.write(tensors, hold))
            counts.append(len(tensors[KEYS]))

    for at in chosen:
        kept = doubles.kept(at)
        if not len(kept):
            continue
        part = chosen_rows(rows.mapped[at], kept)
        if size + _num_bytes(part) > SHARD_BYTES:
            write()
            group, size = [], 0
        group.append(part)
        place[at] = len(names)
        size += _num_bytes(part)
    write()
    return names, counts, place


def _num_bytes(tensors: dict[str, Tensor]) -> int:
    """Bytes of the rows, keys not counted."""
    return sum(tensor.nbytes for name, tensor in tensors.items() if name != KEYS)
