"""Manifests: small files that list the shards of a recipe; all of them together count.

A manifest is never changed, and two of them cannot have one name: the name ends with the digest of the content.
Builders at work at once, and folders that were copied into each other, therefore only add.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from frostline.caching.store.shards import SHARD_NAME
from frostline.caching.store.sharing import ALONE
from frostline.core.errors import CacheError
from frostline.core.io import (
    Damaged,
    disk_errors,
    names_in,
    read_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from frostline.caching.store.sharing import Sharing, Signer

FORMAT = 2
KIND = "manifest"  # of what is signed
# Training and validation data share a recipe, and so do folds; older snapshots cost a second run some reading.
_KEPT_SNAPSHOTS = 8
MAX_MANIFEST_BYTES = 16 * 2**20
BYTES_PER_VALUE = 16  # the name of a shard has 76
MANIFEST_NAME = re.compile(r"\d{8,18}(-[0-9a-f]{16})?\.json")
_TRIES = 100  # listings; each is repeated only if a collector deleted a manifest meanwhile


@dataclass(frozen=True)
class Manifest:
    """What a recipe's folder holds, or what one file adds to it.

    Attributes:
        recipe: Key of the recipe.
        shards: Names of the shards with rows, in the order in which they were published.
        rows: Rows of each.
        replaced: (old shard, shards that hold all of its rows): the old one counts no more once these are there.
            Without any, the old one is known to be missing, and counts no more as long as it is.
        shared: Name of the shard with the shared tensors, or None.
        snapshots: Names of the shards with keys and inputs of the datasets that were filled last, newest last.
        evicted: Shards that counted once and may still be there: the collector need not wait until they are old.
        tensors: [name, shape, dtype, shared] of each frontier tensor.
        written_by: Versions of the libraries, for people.
        row_s: Seconds to read a sample and to compute its row, as the last fill has measured; 0 where none has.
        views: The most views of one sample that a fill has stored.
        storage: How features are rounded.
        error: The largest error of a value, relative to the largest of its row, as the fills have measured it.
    """

    recipe: str = ""
    shards: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    replaced: tuple[tuple[str, tuple[str, ...]], ...] = ()
    shared: str | None = None
    snapshots: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()
    tensors: tuple[Any, ...] = ()
    written_by: str = ""
    row_s: float = 0.0
    views: int = 1
    storage: str = "exact"
    error: float = 0.0

    def names(self) -> tuple[str, ...]:
        """Every shard that is needed."""
        return (*self.shards, *((self.shared,) if self.shared else ()), *self.snapshots)

    def rows_of(self) -> dict[str, int]:
        """Rows by shard."""
        return dict(zip(self.shards, self.rows, strict=True))


@dataclass(frozen=True)
class Contents:
    """All manifests of a folder, read together.

    Attributes:
        manifest: What counts.
        number: The highest number.
        files: Names of the manifests that were whole.
        listed: Every shard that any of them names, also those that count no more.
        notes: What was passed over.
    """

    manifest: Manifest
    number: int
    files: tuple[str, ...]
    listed: frozenset[str]
    notes: tuple[str, ...]


def read_newest(folder: Path, sharing: Sharing = ALONE) -> tuple[int, Manifest, tuple[str, ...]]:
    """(highest number, all manifests as one, notes on those that are not whole, which are left out).

    Raises:
        CacheError: If a manifest cannot be read now, or was written by a newer version of Frostline.
    """
    found = read_contents(folder, sharing)
    return found.number, found.manifest, found.notes


def read_contents(folder: Path, sharing: Sharing = ALONE) -> Contents:
    """All manifests; they are listed again if one was deleted meanwhile, since another one has its content then.

    Shards whose rows lie in others that replace them do not count, if these are on the disk, or in the store.

    Raises:
        CacheError: If a manifest cannot be read now, or was written by a newer version of Frostline.
    """
    for _ in range(_TRIES):
        notes = sharing.remote.pull() if sharing.remote is not None else []
        names = manifest_names(folder)
        found: dict[str, Manifest] = {}
        for name in names:
            try:
                found[name] = _parse(folder / name, sharing.signer)
            except Damaged as error:
                notes.append(f"{name} is not whole and was passed over ({error.received})")
            except CacheError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        shards = folder.parent / "shards"
        with disk_errors("list", shards):
            present = set(names_in(shards)) | (sharing.remote.shard_names() if sharing.remote is not None else set())
        if set(names) <= set(manifest_names(folder)):
            listed = frozenset(named for one in found.values() for named in _all_names(one))
            whole = _without_replaced(_union(list(found.values())), present)
            return Contents(whole, number_of(names[-1]) if names else 0, tuple(found), listed, tuple(notes))
    raise CacheError(
        what="The manifests of the cache change faster than they can be read.", where=str(folder),
        received=f"files that went during each of {_TRIES} readings",
        do="check that nothing deletes files in this folder, then run again.",
    )  # fmt: skip


# Considered: one numbered list that the next one replaces. Two builders, a copied cache and a stray file of a high
# number would meet at one name there, and the last one would win.
def manifest_names(folder: Path) -> list[str]:
    """Names of the manifests in a folder, oldest first."""
    with disk_errors("list", folder):
        names = [name for name in names_in(folder) if MANIFEST_NAME.fullmatch(name)]
    return sorted(names, key=lambda name: (number_of(name), name))


def without_shards(manifest: Manifest, names: Iterable[str]) -> Manifest:
    """The manifest without shards that cannot be used."""
    gone = set(names)
    kept = [(shard, rows) for shard, rows in zip(manifest.shards, manifest.rows, strict=True) if shard not in gone]
    return replace(
        manifest,
        shards=tuple(shard for shard, _ in kept),
        rows=tuple(rows for _, rows in kept),
        shared=None if manifest.shared in gone else manifest.shared,
        snapshots=tuple(snapshot for snapshot in manifest.snapshots if snapshot not in gone),
    )


# Snapshots hold inputs that go straight to the head. Keys and targets of every dataset could be kept too, but nothing
# reads them: labels come from the dataset, so that a corrected label is never stale.
def with_snapshot(manifest: Manifest, name: str, shared: str | None, tensors: tuple[Any, ...]) -> Manifest:
    """The manifest with this snapshot as the newest; the oldest goes where there are too many."""
    others = tuple(snapshot for snapshot in manifest.snapshots if snapshot != name)
    kept = (*others, name)[-_KEPT_SNAPSHOTS:]
    return replace(manifest, snapshots=kept, shared=shared or manifest.shared, tensors=tensors or manifest.tensors)


def _union(manifests: list[Manifest]) -> Manifest:
    """All of them as one; of fields that exist once, the value of the last one."""
    rows: dict[str, int] = {}
    whole = Manifest()
    for added in manifests:
        rows.update({name: count for name, count in added.rows_of().items() if name not in rows})
        for name in added.snapshots:
            whole = with_snapshot(whole, name, None, ())
        whole = replace(
            whole,
            recipe=added.recipe,
            shared=added.shared or whole.shared,
            tensors=added.tensors or whole.tensors,
            written_by=added.written_by,
            row_s=added.row_s or whole.row_s,
            views=max(added.views, whole.views),
            storage=added.storage if added.storage != "exact" else whole.storage,
            error=max(added.error, whole.error),
        )
    replaced = dict.fromkeys(record for added in manifests for record in added.replaced)
    return replace(whole, shards=tuple(rows), rows=tuple(rows.values()), replaced=tuple(replaced))


# A record that a shard is replaced counts only while what replaces it is on the disk, and only if no ring comes of
# it: two merges at once must not remove each other's rows.
def _without_replaced(whole: Manifest, present: set[str]) -> Manifest:
    """Leave out every shard whose rows are all in others that count and are on the disk.

    A record that would make a ring (two merges at once, each replacing what the other kept) does not count: what a
    shard is replaced by leads, over records that count, to shards that stay.
    """
    missing = {old for old, by in whole.replaced if not by} - present
    held = present & set(whole.shards)
    by_old: dict[str, tuple[str, ...]] = {}

    def ends(names: tuple[str, ...]) -> set[str]:
        found: set[str] = set()
        rest = list(names)
        while rest:
            name = rest.pop()
            rest += by_old.get(name, ())
            found |= set() if name in by_old else {name}
        return found

    is_new = True
    while is_new:
        counting = [(old, by) for old, by in whole.replaced if by and old not in by_old]
        for old, by in counting:
            behind = ends(by)
            if old not in by_old and old not in behind and behind <= held:
                by_old[old] = by
        is_new = any(old in by_old for old, _ in counting)
    records = tuple((old, by) for old, by in by_old.items() if old in present)  # the others are gone for good
    return replace(without_shards(whole, {*by_old, *missing}), replaced=records)


def _all_names(manifest: Manifest) -> set[str]:
    return {*manifest.names(), *manifest.evicted, *(name for old, by in manifest.replaced for name in (old, *by))}


def number_of(name: str) -> int:
    """The number that the name of a manifest begins with."""
    return int(re.split(r"[-.]", name)[0])


def digest_of(body: str) -> str:
    """The digest of the content, as a manifest holds it."""
    return hashlib.sha256(body.encode()).hexdigest()


def _parse(path: Path, signer: Signer | None = None) -> Manifest:
    whole = read_json(path, max_bytes=MAX_MANIFEST_BYTES, bytes_per_value=BYTES_PER_VALUE)
    try:
        if type(whole["format"]) is not int or whole["format"] < FORMAT:
            raise _torn(path, f"format {whole['format']!r}, where {FORMAT} belongs")
        if whole["format"] > FORMAT:
            raise CacheError(
                what="The cache was written by a newer version of Frostline.",
                where=str(path),
                received=f"format {whole['format']}; this version reads {FORMAT}",
                do="upgrade frostline, or use another cache folder.",
            )
        content = whole["content"]
        if digest_of(json.dumps(content, sort_keys=True)) != whole["digest"]:
            raise _torn(path, "content that does not have the digest in the file")
        manifest = Manifest(
            recipe=content["recipe"], shards=tuple(content["shards"]), rows=tuple(content["rows"]),
            replaced=tuple((old, tuple(by)) for old, by in content["replaced"]), shared=content["shared"],
            snapshots=tuple(content["snapshots"]), evicted=tuple(content["evicted"]),
            tensors=tuple(content["tensors"]), written_by=content["written_by"],
            row_s=float(content.get("row_s", 0.0)), views=int(content.get("views", 1)),
            storage=str(content.get("storage", "exact")), error=float(content.get("error", 0.0)),
        )  # fmt: skip
        if not all(SHARD_NAME.fullmatch(name) for name in _all_names(manifest)):
            raise _torn(path, "names of shards that Frostline does not write")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise _torn(path, f"{type(error).__name__}: {error}") from error
    _check_signature(path, whole, signer)
    if manifest.recipe != path.parent.parent.name:
        raise _torn(path, f"the recipe {manifest.recipe!r}")
    are_counts = all(type(rows) is int and rows >= 0 for rows in manifest.rows)
    if not are_counts or len(manifest.rows) != len(manifest.shards) or len(set(manifest.shards)) < len(manifest.shards):
        raise _torn(path, "numbers of rows that do not belong to the shards")
    return manifest


# The digest is that of the content, which names every shard by the digest of its own content, and the recipe.
def _check_signature(path: Path, whole: dict[str, Any], signer: Signer | None) -> None:
    """Raise if there is a key, and it has not signed this manifest."""
    if signer is None or signer.has_signed(KIND, whole["digest"], whole.get("signature")):
        return
    raise CacheError(
        what="A manifest of the cache is not signed with your key.", where=str(path),
        received="no signature" if "signature" not in whole else "a signature of another key, or of another content",
        do="ask those who write to this cache for their key, or fill another cache with yours. If you trust all of "
        "them, open it without a key; if not, purge the recipe.",
    )  # fmt: skip


def _torn(path: Path, received: str) -> Damaged:
    return Damaged(
        what="A manifest is not whole.", where=str(path), received=received,
        do="nothing: the other manifests are used, and the next fill writes a new one.",
    )  # fmt: skip
