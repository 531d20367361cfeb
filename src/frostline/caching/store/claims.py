"""Claims: the samples that a builder is about to compute, so that other builders compute other ones first.

A claim saves work, and no row depends on one: builders that hold the same claim store some rows twice, which a merge
makes one. On a disk a claim is a file that its builder keeps locked: it ends with the process, and no clock is asked.
"""

from __future__ import annotations

import os
import re
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import numpy as np

from frostline.core import io
from frostline.core.errors import CacheError
from frostline.core.io import check_folder, make_folder, names_in, read_bytes, remove
from frostline.core.locks import held, lock, remove_unlocked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Ids = NDArray[np.uint64]

CLAIM_NAME = re.compile(r"[0-9a-f]{32}\.claim")
ID_BYTES = 8
MOST_CLAIMED = 2**18  # samples of one builder whose rows are not published yet: a file of 2 MB
_WAIT_S = 1.0  # for a builder that reads the claims; after that two may claim the same
NONE_CLAIMED: Ids = np.empty(0, np.uint64)


class Claims(Protocol):
    """What one builder claims of a recipe, and what others do."""

    @property
    def span_s(self) -> float:
        """Seconds of work that one claim should hold: far more than it costs to claim it."""
        ...

    @property
    def patience_s(self) -> float:
        """How long others are waited for, at least."""
        ...

    @property
    def num_others(self) -> int:
        """Builders that held claims at the last call of `take`."""
        ...

    def take(self, ids: Ids, most: int) -> NDArray[np.bool_]:
        """Claim samples, so many at most; True for those that nobody alive holds, which are this builder's now."""
        ...

    def give_back(self, ids: Ids) -> None:
        """The rows of these are published, or will not be computed."""
        ...

    def close(self) -> None:
        """Give back everything."""
        ...


class LockedClaims:
    """The claims of one builder on a disk: a locked file with 8 bytes of each sample.

    Where the folder cannot be written, or the disk has no locks, there are no claims: every sample is free.

    Args:
        folder: Of the claims of one recipe.
    """

    span_s, patience_s = 1.0, 5.0

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / f"{uuid.uuid4().hex}.claim"
        self._file: int | None = None
        self._held, self._is_off, self.num_others = NONE_CLAIMED, False, 0

    def take(self, ids: Ids, most: int) -> NDArray[np.bool_]:
        """Claim samples, so many at most; True for those that nobody alive holds, which are this builder's now."""
        free = np.ones(len(ids), np.bool_)

        def claim() -> None:
            if self._file is None:
                check_folder(self._folder)
                make_folder(self._folder)
            with held(self._folder, wait_s=_WAIT_S, is_folder=True):
                free[:] = first_free(ids, self._of_others(), most)
                if free.any():
                    self._write(np.concatenate([self._held, ids[free]]))

        self._try(claim)
        return free

    def give_back(self, ids: Ids) -> None:
        """The rows of these are published, or will not be computed."""
        if len(self._held):
            self._try(lambda: self._write(np.setdiff1d(self._held, ids)))

    def close(self) -> None:
        """Give back everything."""
        file, self._file, self._held = self._file, None, NONE_CLAIMED
        if file is not None:
            with suppress(OSError):  # who takes the next claim deletes it
                remove(self._path)
            os.close(file)

    def _try(self, change: Callable[[], None]) -> None:
        if self._is_off:
            return
        try:
            change()
        except (OSError, CacheError):
            self._is_off = True
            self.close()

    def _of_others(self) -> Ids:
        """What builders hold that are alive; the files of dead ones are deleted."""
        found, self.num_others = [NONE_CLAIMED], 0
        for path in _files(self._folder):
            if path != self._path:
                with suppress(OSError, CacheError):  # it is gone, or belongs to another user
                    if not remove_unlocked(path):
                        found.append(ids_in(read_bytes(path, max_bytes=ID_BYTES * 2 * MOST_CLAIMED)))
                        self.num_others += 1
        return np.concatenate(found)

    def _write(self, ids: Ids) -> None:
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = io.call(os.open, self._path, flags, 0o600)
            lock(self._file, is_exclusive=True)
        content = ids.tobytes()
        io.call(os.pwrite, self._file, content, 0)
        io.call(os.ftruncate, self._file, len(content))
        self._held = ids


def first_free(ids: Ids, held: Ids, most: int) -> NDArray[np.bool_]:
    """Which ids are not among those that are held; the first ones, so many at most."""
    free = ~np.isin(ids, held)
    return free & (np.cumsum(free) <= most)


def sweep_claims(folder: Path) -> None:
    """Delete the claims of builders that have died."""
    with suppress(OSError):
        for path in _files(folder):
            with suppress(OSError):
                remove_unlocked(path)


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder) if CLAIM_NAME.fullmatch(name)]


def ids_in(content: bytes) -> Ids:
    """The ids of a claim."""
    return np.frombuffer(content[: len(content) // ID_BYTES * ID_BYTES], np.uint64)
