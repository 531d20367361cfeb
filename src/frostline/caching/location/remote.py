"""A cache under a URL: the store holds the files, and a bounded folder on the disk holds copies that can be mapped.

Shards are fetched whole and checked against the digest in their name. A new shard is written to the disk, then to the
store, and then a manifest names it. Nothing in the store is ever changed; two builders only add.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch

from frostline.caching.location.local_recipe import delete_recipe
from frostline.caching.location.store_claims import STORE_CLAIM_NAME, StoreClaims
from frostline.caching.location.use import last_used
from frostline.caching.store.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, manifest_names
from frostline.caching.store.mapped_shard import KEYS, Shard, damaged_shard
from frostline.caching.store.shards import SHARD_NAME, tensors_of
from frostline.core.errors import CacheError
from frostline.core.io import Damaged, disk_errors, make_folder, names_in, remove, status
from frostline.core.locks import remove_unlocked
from frostline.core.new_files import publish_new, write_atomic
from frostline.core.reserved_file import Reserved

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from frostline.caching.store.mapped_shard import Mapped, Tensors
    from frostline.caching.store.sharing import RemoteFolder
    from frostline.core.shelf import Shelf

RECIPE = re.compile(r"[0-9a-f]{32}")
LEASE_NAME = RECIPE
_TRIES = 20
_MAX_SHARD_BYTES = 16 * 2**30  # a fill writes half a gigabyte, or one batch
_START_BYTES = 2**20  # header and keys of a shard, as a rule
_AT_ONCE = 8  # requests for small objects
_DEAD_S = 86400.0  # what no manifest needs stays for so long: a reader that has an older list may still fetch it
_KINDS = {"manifests": MANIFEST_NAME, "shards": SHARD_NAME, "leases": LEASE_NAME, "claims": STORE_CLAIM_NAME}
LEASE_S = 3600.0  # a builder that is alive renews its lease twelve times in this
_RENEW_S = 300.0


class RemoteRecipe:
    """The folder of one recipe in a store, and its copy on the disk.

    Args:
        shelf: The cache in the store.
        folder: Of the recipe on the disk.
    """

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self._shelf, self._folder, self._recipe = shelf, folder, folder.name
        self._damaged: set[str] = set()  # in the store, as this process has seen them
        self._lease, self._renewed = "", 0.0

    def pull(self) -> list[str]:
        """Copy the manifests of the store to the disk; returns a note for each that is not whole and was left out."""
        folder = self._folder / "manifests"
        make_folder(folder)
        for _ in range(_TRIES):
            held = set(manifest_names(folder))  # before the store is listed: what comes to both meanwhile is not old
            there = {name for name in self._shelf.sizes(self._in("manifests")) if MANIFEST_NAME.fullmatch(name)}
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                copied = dict(zip(new := sorted(there - held), pool.map(self._copy_manifest, new), strict=True))
            with disk_errors("delete files in", folder):
                for name in held - there:
                    remove(folder / name)
            if None not in copied.values():  # else one was deleted, and what it said stands in another
                return [f"{name} is not whole and was passed over" for name, is_whole in copied.items() if not is_whole]
        raise CacheError(
            what="The manifests of the cache change faster than they can be read.", where=self.text,
            received=f"objects that went during each of {_TRIES} readings",
            do="check that nothing deletes objects in this folder, then run again.",
        )  # fmt: skip

    def _copy_manifest(self, name: str) -> bool | None:
        """True if the manifest was whole and copied, None if it was deleted meanwhile."""
        data = self._shelf.read(self._in("manifests", name), max_bytes=MAX_MANIFEST_BYTES)
        if data is None:
            return None
        if not _is_whole(name, data):  # perhaps it is being written: it is read again the next time
            return False
        publish_new(self._folder / "manifests" / name, [data])
        return True

    def shard_names(self) -> set[str]:
        """The shards in the store."""
        return {name for name in self._shelf.sizes(self._in("shards")) if SHARD_NAME.fullmatch(name)}

    def fetch(self, name: str) -> None:
        """Bring a shard onto the disk, if the store has it."""
        path = self._folder / "shards" / name
        make_folder(path.parent)
        try:
            there = self._in("shards", name)
            self._shelf.fetch(there, path.stem, lambda parts: write_atomic(path, parts), max_bytes=_MAX_SHARD_BYTES)
        except Damaged:
            self._damaged.add(name)
            raise
        self._damaged.discard(name)

    def reserve(self, name: str) -> Shard | None:
        """A shard of which the keys alone are here; the rest is fetched before it is used. None: the store lacks it.

        The file has its full size at once, so that rows have their places in memory before they are there.
        """
        there, path = self._in("shards", name), self._folder / "shards" / name
        found = self._shelf.read_start(there, _START_BYTES)
        if found is None or found[0] < 8 or name in self._damaged:
            return None
        size, start = found
        make_folder(path.parent)
        with disk_errors("write", path):
            file = Reserved(path, size)
            mapped = file.mapped()
            file.write([start])
        try:
            tensors = tensors_of(path, mapped, size, self._recipe)
        except Damaged:
            self._damaged.add(name)
            raise
        end = _end_of_keys(mapped, tensors)
        if end > len(start):
            again = self._shelf.read_start(there, end)
            with disk_errors("write", path):
                file.write([again[1] if again is not None else b""])

        def arrive() -> None:
            try:
                with disk_errors("write", path):
                    if not self._shelf.fetch(there, path.stem, file.write, max_bytes=size):
                        raise damaged_shard(path, "an object that is gone from the store")
                    file.publish()
            except Damaged:
                self._damaged.add(name)
                self.set_aside(name)
                raise

        return Shard(path, (), mapped, tensors, arrive)

    def push(self, name: str) -> None:
        """Write a shard from the disk to the store, if it is not there."""
        self._renew()
        path, there = self._folder / "shards" / name, self._in("shards", name)
        found = status(path)
        if found is not None and (name in self._damaged or self._shelf.size(there) != found.st_size):
            self._shelf.put(there, path)
            self._damaged.discard(name)

    def publish(self, name: str, data: bytes, shards: tuple[str, ...]) -> None:
        """Write a manifest to the store, where these shards must be."""
        self._renew()
        if missing := set(shards) - self.shard_names():
            raise CacheError(
                what="A manifest was not published: the store lacks a shard that it names.",
                where=f"{self._shelf.url}/{self._in('manifests', name)}", received=f"no {sorted(missing)[0]}",
                do="fill the cache again when nothing deletes files in the store.",
            )  # fmt: skip
        self._shelf.create(self._in("manifests", name), data)

    def set_aside(self, name: str) -> None:
        """Delete a damaged shard that nobody can be writing any more: it is older than a lease."""
        with suppress(CacheError):
            if name in self._damaged and self._age(self._in("shards", name), self._now()) > LEASE_S:
                self.delete_object("shards", name)

    def claims(self) -> StoreClaims:
        """What one builder claims here."""
        return StoreClaims(self._shelf, self._in("claims"))

    def has_other_builders(self) -> bool:
        """Whether a lease of somebody else was renewed within the last hour; True where the store has no clock."""
        leases = [name for name in self._shelf.sizes(self._in("leases")) if LEASE_NAME.fullmatch(name)]
        others = [self._in("leases", name) for name in leases if name != self._lease]
        now = self._now() if others else None
        return any(self._age(own, now) <= LEASE_S for own in others)

    def delete_dead(self, needed: set[str], at_once: Iterable[str] = ()) -> None:
        """Delete shards that are not needed, those that are a day old and these at once, and claims of nobody."""
        for name in filter(STORE_CLAIM_NAME.fullmatch, self._shelf.sizes(self._in("claims"))):
            self.delete_object("claims", name)
        dead = self.shard_names() - needed
        now = self._now() if dead else None
        for name in sorted(dead):
            if name in at_once or self._age(self._in("shards", name), now) > _DEAD_S:
                self.delete_object("shards", name)

    def _age(self, name: str, now: float | None) -> float:
        """Seconds since an object was written, by the clock of the store; negative where that cannot be known."""
        then = self._shelf.modified(name) if now is not None else None
        return -1.0 if then is None or now is None else now - then

    def _now(self) -> float | None:
        """The time by the clock of the store; None where that cannot be known."""
        name = self._in("leases", uuid.uuid4().hex)
        self._shelf.touch(name)
        try:
            return self._shelf.modified(name)
        finally:
            self._shelf.delete(name)

    def delete_object(self, kind: str, name: str) -> None:
        """Delete a file of the store, in the folder of this kind."""
        self._shelf.delete(self._in(kind, name))

    @contextmanager
    def lease(self) -> Generator[None]:
        """Inside, an object in the store says that this builder is at work; it counts for an hour after the last push.

        A store that this process may not write has none, and there it deletes nothing either.
        """
        self._lease, self._renewed = uuid.uuid4().hex, 0.0
        try:
            self._renew()
            yield
        finally:
            lease, self._lease = self._lease, ""
            with suppress(CacheError):
                self._shelf.touch(self._in("used"))
                self._shelf.delete(self._in("leases", lease))

    def _renew(self) -> None:
        if self._lease and time.monotonic() - self._renewed > _RENEW_S:
            self._shelf.touch(self._in("leases", self._lease))
            self._renewed = time.monotonic()

    @property
    def name(self) -> str:
        """The key of the recipe."""
        return self._recipe

    @property
    def text(self) -> str:
        """The address of the folder, without secrets."""
        return f"{self._shelf.url}/{self._recipe}"

    def last_used(self) -> float:
        """When a fill used it last, by the clock of the store; now, where that cannot be known."""
        names = ["used", *(f"leases/{own}" for own in self._shelf.sizes(self._in("leases")))]
        known = [when for own in names if (when := self._shelf.modified(self._in(own))) is not None]
        return max(known, default=time.time())

    def num_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(sum(self._shelf.sizes(self._in(kind)).values()) for kind in ("shards", "manifests"))

    def sizes(self, kind: str) -> dict[str, int]:
        """Bytes of each file in its folder of this kind."""
        return self._shelf.sizes(self._in(kind))

    @contextmanager
    def evictable(self) -> Generator[bool]:
        """Yields False while a fill is running; readers go on with the copies that they have."""
        yield not self.has_other_builders()

    def delete(self) -> int:
        """Delete the recipe, manifests first, so that none names a deleted shard; returns the bytes freed in the store.

        Raises:
            CacheError: If a builder is at work.
        """
        check_alone(self)
        freed = self.num_bytes()
        for kind, names in _KINDS.items():
            for name in self._shelf.sizes(self._in(kind)):
                if names.fullmatch(name):
                    self.delete_object(kind, name)
        self._shelf.delete(self._in("used"))
        for folder in (*(self._in(kind) for kind in _KINDS), self._recipe):
            self._shelf.leave_folder(folder)
        delete_recipe(self._folder)
        return freed

    def _in(self, *names: str) -> str:
        return "/".join((self._recipe, *names))


def _end_of_keys(mapped: Mapped, tensors: Tensors) -> int:
    """Where the keys end in a mapped file."""
    keys = tensors.get(KEYS)
    if keys is None or not keys.numel():
        return 0
    return keys.data_ptr() + keys.nbytes - torch.frombuffer(mapped, dtype=torch.uint8, count=1).data_ptr()


def bound_copies(root: Path, max_bytes: int) -> int:
    """Delete copies on the disk until they take no more than this, those of the recipe used longest ago first.

    What any process has mapped, or is writing, stays: then they take more for a while.

    Args:
        root: The folder of the copies.
        max_bytes: What they may take.

    Returns:
        What they take now.
    """
    found: list[tuple[float, float, Path, int]] = []
    with disk_errors("list", root):
        for folder in [root / name for name in names_in(root) if RECIPE.fullmatch(name)]:
            used = last_used(folder)
            for path in [
                folder / "shards" / name for name in names_in(folder / "shards") if SHARD_NAME.fullmatch(name)
            ]:
                if (own := status(path)) is not None:
                    found.append((used, own.st_mtime, path, own.st_size))
    total = sum(size for *_, size in found)
    for _, _, path, size in sorted(found):
        if total <= max_bytes:
            break
        with suppress(OSError):
            if remove_unlocked(path):
                total -= size
    return total


def check_alone(remote: RemoteFolder) -> None:
    """Raise if a builder on another machine may be using what would be deleted."""
    if remote.has_other_builders():
        raise CacheError(
            what="Another process fills this part of the cache.", where=remote.text,
            received="a lease that was renewed within the last hour",
            do="run again when its fill has ended; the lease of one that was killed ends by itself after an hour.",
        )  # fmt: skip


def _is_whole(name: str, data: bytes) -> bool:
    """Whether the content of a manifest has the digest in its name."""
    try:
        content = json.loads(data)["content"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return "-" not in name or name.split("-")[1].split(".")[0] == digest[:16]
