"""Locks that mark recipes as in use: these are not evicted, and the time of the lock is that of the last use."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from frostline.caching.store.shards import SHARD_NAME
from frostline.caching.store.sharing import ALONE
from frostline.core import io
from frostline.core.io import make_folder, names_in, status
from frostline.core.locks import lock
from frostline.core.new_files import is_temporary

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from frostline.caching.store.sharing import Sharing

USE_LOCK = "use.lock"
_TRIES = 8  # a lock whose file is deleted while it is waited for is asked for anew


@contextmanager
def in_use(folder: Path, sharing: Sharing = ALONE) -> Generator[None]:
    """A context in which this recipe is not evicted; its rows count as used now.

    On a disk that is read-only, or without locks, nothing is marked, and nothing can be evicted.

    Args:
        folder: Of the recipe; it is made.
        sharing: Its remote folder and its key.
    """
    make_folder(folder)
    with ExitStack() as stack:
        descriptor = _locked(folder)
        if descriptor is not None:
            stack.callback(os.close, descriptor)
        if sharing.remote is not None:
            stack.enter_context(sharing.remote.lease())
        yield


def last_used(folder: Path) -> float:
    """When the rows of a recipe were last used, in seconds since 1970; of an older cache, when they were written."""
    found = [own.st_mtime for name in (USE_LOCK, "manifests", "shards") if (own := status(folder / name)) is not None]
    return found[0] if found else 0.0


@contextmanager
def evictable(folder: Path) -> Generator[bool]:
    """A context in which no fill of this recipe begins; yields False if one is running, or a process maps its rows."""
    descriptor = None
    try:
        is_free = False
        with suppress(OSError):
            descriptor = _opened(folder)
            is_free = lock(descriptor, is_exclusive=True) and not _is_any_mapped(folder / "shards")
        yield is_free
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_any_mapped(shards: Path) -> bool:
    """True if any process has a shard locked, finished or not: every reader and every writer has."""
    for name in names_in(shards):
        is_ours = SHARD_NAME.fullmatch(name) or is_temporary(name, SHARD_NAME)
        if is_ours and not _is_free(shards / name):
            return True
    return False


def _is_free(path: Path) -> bool:
    descriptor = io.call(os.open, path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return lock(descriptor, is_exclusive=True)
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """The open lock file, shared with other fills; None where it cannot be locked."""
    for _ in range(_TRIES):
        descriptor = None
        try:
            descriptor = _opened(folder)
            lock(descriptor, is_exclusive=False, is_waiting=True)
            if io.call(os.fstat, descriptor).st_nlink:
                io.call(os.utime, folder / USE_LOCK)
                return descriptor
            make_folder(folder)  # evicted while the lock was waited for
        except OSError:
            if descriptor is not None:
                os.close(descriptor)
            return None
        os.close(descriptor)
    return None


def _opened(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return io.call(os.open, folder / USE_LOCK, flags, 0o600)
