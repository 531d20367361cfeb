"""Deletes files that are no longer needed; beside `purge`, nothing else in a cache deletes.

A file is deleted if the manifests together do not need it, if no process has it mapped (readers hold a lock on what
they map, and the kernel frees it when they end), and if it is old. Replaced files are deleted earlier where they would
outgrow the files in use.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.caching.store.manifest import manifest_names, read_contents
from frostline.caching.store.manifest_writer import delete_manifests, in_parts, write_manifest
from frostline.caching.store.shards import SHARD_NAME
from frostline.caching.store.sharing import ALONE
from frostline.core import io
from frostline.core.errors import CacheError
from frostline.core.io import names_in, remove, status
from frostline.core.locks import lock

if TYPE_CHECKING:
    from pathlib import Path

    from frostline.caching.store.sharing import Sharing

# A builder names a shard in a manifest right after it was written: an hour is far more than it needs.
_MIN_AGE_S = 3600.0
_MAX_MANIFESTS = 32  # from here on one manifest says what all of them say
_AT_ONCE = 64  # files that are locked together
_MAX_PROOFS = 64  # of one recipe: heads, batch sizes and versions that are in use at once
_MAX_PROOF_AGE_S = 90 * 86400.0  # since the last use


def collect_proofs(folder: Path, names: re.Pattern[str]) -> None:
    """Delete proofs beyond the most recently used ones, and those unused for months; a deleted one is computed again.

    Args:
        folder: Of the proofs of one recipe.
        names: How they are named.
    """
    with suppress(OSError, CacheError):
        found = {name: own.st_mtime for name in names_in(folder) if names.fullmatch(name)
                 and (own := status(folder / name))}  # fmt: skip
        by_use = sorted(found, key=lambda name: -found[name])
        oldest = time.time() - _MAX_PROOF_AGE_S
        for at, name in enumerate(by_use):
            if at >= _MAX_PROOFS or found[name] < oldest:
                remove(folder / name)


def collect(folder: Path, sharing: Sharing = ALONE) -> int:
    """Delete files of a recipe that are not needed; those that cannot be read, locked or deleted now stay.

    Args:
        folder: Of the recipe.
        sharing: With whom it is shared; in a store nothing is deleted while another builder is at work.

    Returns:
        Bytes that were freed on this disk.
    """
    freed = 0
    with suppress(OSError, CacheError):
        freed = _delete_dead(folder, sharing)
        if sharing.remote is None or not sharing.remote.has_other_builders():
            _sum_up(folder / "manifests", sharing)
            if sharing.remote is not None:
                sharing.remote.delete_dead(set(read_contents(folder / "manifests", sharing).manifest.names()))
    return freed


def _delete_dead(folder: Path, sharing: Sharing) -> int:
    contents, shards = read_contents(folder / "manifests", sharing), folder / "shards"
    files = {name: found for name in names_in(shards) if SHARD_NAME.fullmatch(name)
             and (found := status(shards / name))}  # fmt: skip
    needed = set(contents.manifest.names())
    dead = set(files) - needed
    is_much = sum(files[name].st_size for name in dead) > sum(files[name].st_size for name in needed & set(files))
    newest = time.time() - _MIN_AGE_S
    chosen = sorted(name for name in dead if files[name].st_mtime < newest or (is_much and name in contents.listed))
    parts = [chosen[start : start + _AT_ONCE] for start in range(0, len(chosen), _AT_ONCE)]
    return sum(files[name].st_size for part in parts for name in _delete_unused(folder, part, sharing))


def _delete_unused(folder: Path, names: list[str], sharing: Sharing) -> list[str]:
    """Delete those that no process has mapped, and that no manifest has come to need before they were locked."""
    with ExitStack() as stack:
        locked = [name for name in names if _is_locked(folder / "shards" / name, stack)]
        needed = read_contents(folder / "manifests", sharing).manifest.names()
        return [name for name in locked if name not in needed and remove(folder / "shards" / name)]


def _is_locked(path: Path, stack: ExitStack) -> bool:
    """Lock the file for ourselves alone, until the stack closes."""
    with suppress(OSError):
        descriptor = io.call(os.open, path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        return lock(descriptor, is_exclusive=True)
    return False


def _sum_up(folder: Path, sharing: Sharing) -> None:
    """One manifest instead of many, durable before these are deleted: a reader that meets a missing one lists again."""
    if len(manifest_names(folder)) <= _MAX_MANIFESTS:
        return
    contents = read_contents(folder, sharing)
    present = set(names_in(folder.parent / "shards"))
    evicted = sorted((contents.listed & present).difference(contents.manifest.names()))
    whole = replace(contents.manifest, evicted=tuple(evicted))
    if len(contents.files) <= _MAX_MANIFESTS + len(in_parts(whole)) - 1:  # the list is too long for one file
        return
    written = write_manifest(folder, whole, sharing)
    delete_manifests(folder, [name for name in contents.files if name not in written], sharing)
