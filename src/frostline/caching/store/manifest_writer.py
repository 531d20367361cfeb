"""Publishes manifests, each of a size that is read, and deletes those whose content stands in another one."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from frostline.caching.store.manifest import (
    BYTES_PER_VALUE,
    FORMAT,
    KIND,
    MAX_MANIFEST_BYTES,
    digest_of,
    manifest_names,
    number_of,
)
from frostline.caching.store.sharing import ALONE
from frostline.core.errors import CacheError
from frostline.core.io import has_too_many_values, make_folder, remove
from frostline.core.new_files import publish_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from frostline.caching.store.manifest import Manifest
    from frostline.caching.store.sharing import Sharing, Signer

Item = TypeVar("Item")

_MOST_NAMES = 150_000  # of shards in one file; with its number of rows, one takes 88 bytes of the 16 MB that are read
_LAST = 10**18 - 1  # a folder with this number goes on with it: names differ all the same


def write_manifest(folder: Path, manifest: Manifest, sharing: Sharing = ALONE) -> tuple[str, ...]:
    """Write a manifest with the next number, to the store first; returns the names of its files.

    It is one file, unless readers would refuse it for its size: then several say together what it says.

    Raises:
        CacheError: If it cannot be written, or no reader would read it.
    """
    make_folder(folder)
    versions = f"torch {torch.__version__}, {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"
    own = replace(manifest, recipe=folder.parent.name, written_by=versions)
    parts = [(part, *_encoded(part, folder, sharing.signer)) for part in in_parts(own)]
    names: list[str] = []
    for part, digest, data in parts:
        number = max((number_of(name) for name in manifest_names(folder)), default=0)
        name = f"{min(number + 1, _LAST):08d}-{digest[:16]}.json"
        if sharing.remote is not None:
            sharing.remote.publish(name, data, part.names())
        publish_new(folder / name, [data])  # False if it is there: the same name is the same content
        names.append(name)
    return tuple(names)


def in_parts(manifest: Manifest) -> list[Manifest]:
    """Manifests that say together what this one says, each of a size that is read.

    Shards come before the records of what they replace: whoever reads when only some are there finds every row.
    """
    listed = list(zip(manifest.shards, manifest.rows, strict=True))
    shards, records = _groups(listed, lambda _: 1), _groups(manifest.replaced, lambda record: 1 + len(record[1]))
    evicted = _groups(manifest.evicted, lambda _: 1)
    if len(listed) + sum(1 + len(by) for _, by in manifest.replaced) + len(manifest.evicted) <= _MOST_NAMES:
        return [manifest]
    facts = replace(manifest, shards=(), rows=(), replaced=(), evicted=(), snapshots=())
    return [
        *(replace(facts, shards=tuple(n for n, _ in own), rows=tuple(r for _, r in own)) for own in shards),
        *(replace(facts, replaced=tuple(own)) for own in records),
        *(replace(facts, evicted=tuple(own)) for own in evicted),
        *([replace(facts, snapshots=manifest.snapshots)] if manifest.snapshots else ()),
    ]


def _groups(items: Sequence[Item], num_names: Callable[[Item], int]) -> list[list[Item]]:
    """The items in order, in groups of as many names as a manifest may hold."""
    found: list[list[Item]] = []
    room = 0
    for item in items:
        count = num_names(item)
        if not found or count > room:
            found.append([])
            room = _MOST_NAMES
        found[-1].append(item)
        room -= count
    return found


def _encoded(manifest: Manifest, folder: Path, signer: Signer | None) -> tuple[str, bytes]:
    """(digest of the content, the file)."""
    content = asdict(manifest)
    digest = digest_of(json.dumps(content, sort_keys=True))
    signed = {} if signer is None else {"signature": signer.sign(KIND, digest)}
    whole = {"format": FORMAT, "digest": digest, "content": content, **signed}
    data = json.dumps(whole, separators=(",", ":")).encode()
    if len(data) > MAX_MANIFEST_BYTES or has_too_many_values(data, BYTES_PER_VALUE):
        raise CacheError(
            what="A manifest was not published: it is larger than any that is read.", where=str(folder),
            received=f"{len(data):,} bytes and {len(manifest.tensors)} tensors of the frontier; at most "
            f"{MAX_MANIFEST_BYTES:,} bytes are read, with a value for every {BYTES_PER_VALUE}",
            do="freeze at a layer with fewer outputs, so that fewer tensors are stored; nothing was lost.",
        )  # fmt: skip
    return digest, data


def delete_manifests(folder: Path, names: Iterable[str], sharing: Sharing = ALONE) -> None:
    """Delete manifests whose content stands in another one, in the store too."""
    for name in names:
        if sharing.remote is not None:
            sharing.remote.delete_object("manifests", name)
        remove(folder / name)
