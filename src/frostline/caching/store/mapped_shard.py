"""A mapped shard: its digest is compared before its first row is used, and of a store it is fetched before that.

A file that is found damaged is set aside: the next fill computes its rows anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from frostline.core import io
from frostline.core.errors import CacheError
from frostline.core.io import Damaged, disk_errors, make_folder, open_regular, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from mmap import mmap
    from pathlib import Path

    Mapped = mmap | memoryview  # the bytes of a file

KEYS = "sample_keys"
ASIDE = "; the file was set aside"
WRONG_CONTENT = "content that does not have the digest in its name"
_FETCHED_AT_ONCE = 4
_READ_BYTES = 2**20

Tensors = dict[str, Tensor]


class Shard(Mapping[str, Tensor]):
    """The tensors of a mapped shard by name; the digest is checked before the first of them is given out.

    Keys are given out at once: an index over many shards costs no reading of their rows. A row is used only where its
    shard was checked.

    Args:
        path: Of the file.
        identity: What changes when the file does.
        mapped: Its content.
        tensors: Views of it.
        arrive: Writes the content into the file that is mapped, where it is not there yet; None where it is.

    Attributes:
        unchecked: The tensors, for their shapes and places; what is in them may be damaged.
        is_checked: Whether the content has the digest in its name.
        is_broken: Whether the store was found to have no whole object of this name.
        num_bytes: Of the file.
    """

    def __init__(
        self, path: Path, identity: tuple[int, ...], mapped: Mapped, tensors: Tensors,
        arrive: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self.path, self.identity, self.unchecked = path, identity, tensors
        self._arrive, self._has_other_keys = arrive, False
        self._alone, self._process = Lock(), os.getpid()
        self.is_checked, self.is_broken, self.num_bytes, self._content = False, False, len(mapped), mapped

    def __getitem__(self, name: str) -> Tensor:
        if name != KEYS:
            self.check()
        return self.unchecked[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.unchecked)

    def __len__(self) -> int:
        return len(self.unchecked)

    def check(self) -> None:
        """Compare the content with the digest in the name, once.

        Raises:
            Damaged: If it is another; the file was set aside then, so that the next fill computes its rows anew.
            CacheError: If it cannot be read now.
        """
        if not self.is_whole():
            is_moved = set_aside(self.path, self.identity)
            raise damaged_shard(self.path, f"{WRONG_CONTENT}{ASIDE * is_moved}")

    def is_whole(self) -> bool:
        """Whether the content has the digest in the name; it is compared once."""
        if self._process != os.getpid():  # a thread that held the lock is not in a fork
            self._alone, self._process = Lock(), os.getpid()
        with self._alone:  # a thread may fetch ahead
            if self._arrive is not None:
                keys = self.unchecked[KEYS].clone() if KEYS in self.unchecked else torch.empty(0)
                try:
                    self._arrive()
                except Damaged:
                    self.is_broken = True
                    raise
                # What an index was made of must be what has arrived.
                self._has_other_keys = KEYS in self.unchecked and not torch.equal(keys, self.unchecked[KEYS])
                is_whole = hashlib.sha256(cast("Any", self._content)).hexdigest() == self.path.stem
                self.is_checked = is_whole and not self._has_other_keys
                self.identity, self._arrive = identity(self.path), None
            elif not self.is_checked and not self._has_other_keys:
                with disk_errors("read", self.path):
                    self.is_checked = self._digest() == self.path.stem
        return self.is_checked

    @property
    def is_here(self) -> bool:
        """Whether the content lies on this disk."""
        return self._arrive is None

    def _digest(self) -> str:
        """Of the file, if it is still the one that is mapped; of the map, if others have deleted or replaced it."""
        with suppress(FileNotFoundError, Damaged):
            descriptor, _ = open_regular(self.path)
            try:
                if identity_of(io.call(os.fstat, descriptor)) == self.identity:
                    return _digest(descriptor)
            finally:
                os.close(descriptor)
        return hashlib.sha256(cast("Any", self._content)).hexdigest()


def fetch_in_order(shards: Iterable[Shard]) -> None:
    """Fetch shards one after the other, several at a time, in threads that end with the process."""
    rest = iter(list(shards))

    def fetch() -> None:
        for shard in rest:
            with suppress(CacheError, OSError):
                shard.is_whole()

    for _ in range(_FETCHED_AT_ONCE):
        Thread(target=fetch, daemon=True).start()


def set_aside(path: Path, known: tuple[int, ...]) -> bool:
    """Move a damaged shard out of the way, if it is still the file that was read; a full disk may refuse."""
    aside = path.parent.parent / "set-aside"
    with suppress(OSError, CacheError):
        if known and identity(path) == known:
            make_folder(aside)
            io.call(path.rename, aside / path.name)
            return True
    return False


def identity(path: Path) -> tuple[int, ...]:
    """A value that differs once a file was replaced or written; empty for a file that is missing or cannot be read."""
    with suppress(OSError):
        found = status(path)
        if found is not None:
            return identity_of(found)
    return ()


def identity_of(found: os.stat_result) -> tuple[int, ...]:
    """The same value, from the status of an open file."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _digest(descriptor: int) -> str:
    """SHA-256 of an open file, read and not mapped: a disk that fails then raises, and does not kill the process."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_READ_BYTES))
    while count := io.call(os.readv, descriptor, [buffer]):
        digest.update(buffer[:count])
    return digest.hexdigest()


def damaged_shard(path: Path, received: str) -> Damaged:
    """The error for a shard that cannot be used."""
    return Damaged(
        what="A shard of the cache is damaged or missing.",
        where=str(path),
        received=received,
        do="fill the cache again: FeatureCache.fill sets the shard aside and computes its rows anew.",
    )
