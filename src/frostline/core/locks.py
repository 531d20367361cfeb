"""Locks on open files and folders: the kernel frees them when their process ends, however it ends."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from frostline.core import io

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_POLL_S = 0.01


def lock(descriptor: int, *, is_exclusive: bool, is_waiting: bool = False) -> bool:
    """Lock an open file until its last descriptor is closed, by the kernel if its process is killed.

    Returns:
        False if somebody holds it.

    Raises:
        OSError: If this disk has no locks: then it cannot be found out whether the lock is held.
    """
    import fcntl  # not on every system; where it is missing, so is everything that is opened here

    kind = fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH
    try:
        io.call(fcntl.flock, descriptor, kind if is_waiting else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def held(path: Path, *, wait_s: float, is_folder: bool = False) -> Generator[bool]:
    """Inside, this process holds a file or a folder; False if another one does, after so many seconds.

    It is held by a lock, which the kernel frees when the last process that has it open dies. Where there are no locks,
    it is as if nobody held it: such a lock may save work, and must not be needed.

    Args:
        path: Of a file, which is made, or of a folder that is there.
        wait_s: For the one that holds it.
        is_folder: It is a folder.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    try:
        descriptor = io.call(os.open, path, flags | os.O_CLOEXEC, 0o600)
    except OSError:
        yield True
        return
    try:
        is_free, end = True, time.monotonic() + wait_s
        with suppress(OSError):
            while not (is_free := lock(descriptor, is_exclusive=True)) and time.monotonic() <= end:
                time.sleep(_POLL_S)
        yield is_free
    finally:
        os.close(descriptor)


def remove_unlocked(path: Path) -> bool:
    """Delete a file, unless anybody has it locked or locks cannot be asked for."""
    descriptor = io.call(os.open, path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return lock(descriptor, is_exclusive=True) and io.remove(path)
    finally:
        os.close(descriptor)
