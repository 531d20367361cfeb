"""Publishes computed rows shard by shard, and leaves few shards behind.

Legend: B batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.caching.manifests import publish, with_merged, with_shard
from frostline.caching.shards import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from frostline.caching.shards import Shards

# Rows of one shard are gathered by one call, so few large shards are faster than many; the writer holds a shard in
# memory, and time bounds what a kill loses.
SHARD_BYTES = 512 * 2**20
_SHARD_SECONDS = 30.0  # a kill loses at most one shard: a slow model publishes more often than its size asks for


@dataclass(frozen=True)
class _Published:
    name: str
    num_bytes: int


class ShardWriter:
    """Collects rows, and publishes a shard when there is enough, or enough time has passed.

    Args:
        shards: Where shards go.
        manifests: Folder of the manifests.
        before_publish: Called before every shard: what is stored is proven before more is added.
    """

    def __init__(self, shards: Shards, manifests: Path, before_publish: Callable[[], None]) -> None:
        self.shards, self.manifests, self.before_publish = shards, manifests, before_publish
        self._keys: list[Tensor] = []
        self._rows: dict[str, list[Tensor]] = {}
        self._bytes, self._since = 0, time.monotonic()
        self._published: list[_Published] = []

    def add(self, keys: Tensor, rows: dict[str, Tensor]) -> None:
        """Add rows with their keys (B, 16)."""
        self._keys.append(keys)
        for name, tensor in rows.items():
            self._rows.setdefault(name, []).append(tensor)
            self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes >= SHARD_BYTES or time.monotonic() - self._since >= _SHARD_SECONDS:
            self._flush()

    def finish(self) -> None:
        """Publish the rest, and merge the small shards of this fill."""
        self._flush()
        group: list[_Published] = []
        for shard in [*self._published, _Published("", SHARD_BYTES)]:
            if sum(own.num_bytes for own in group) + shard.num_bytes > SHARD_BYTES:
                self._merge([own.name for own in group])
                group = []
            group.append(shard)

    def _flush(self) -> None:
        if not self._keys:
            return
        self.before_publish()
        keys = torch.cat(self._keys)
        name = self.shards.write({KEYS: keys} | {n: torch.cat(r) for n, r in self._rows.items()})
        publish(self.manifests, lambda manifest: with_shard(manifest, name, len(keys)))
        self._published.append(_Published(name, self._bytes))
        self._keys, self._rows, self._bytes, self._since = [], {}, 0, time.monotonic()

    def _merge(self, names: list[str]) -> None:
        """One shard instead of several, published before they go: a kill at any place loses nothing."""
        if len(names) < 2:
            return
        parts = [self.shards.open(name) for name in names]
        tensors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        merged = self.shards.write(tensors)
        publish(self.manifests, lambda manifest: with_merged(manifest, names, merged, len(tensors[KEYS])))
        for name in names:
            self.shards.remove(name)
