"""A file whose content comes later: it has its size and its place in memory before it is there."""

from __future__ import annotations

import mmap
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from frostline.core import io
from frostline.core.locks import lock
from frostline.core.new_files import open_temporary, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Reserved:
    """A file of a known size whose content comes later: it can be mapped now, and has its name when it is whole.

    It is locked as long as this object or a map of it lives, so that nobody sweeps or deletes it.

    Args:
        path: Its name when it is whole.
        size: Its bytes; they take no room before they are written.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._descriptor, self._temporary = open_temporary(path)
        self._end = weakref.finalize(self, _end_reserved, self._descriptor, self._temporary, os.getpid())
        io.call(os.ftruncate, self._descriptor, size)

    def mapped(self) -> mmap.mmap:
        """The file as memory; what is written later shows in it."""
        return io.call(mmap.mmap, self._descriptor, 0, access=mmap.ACCESS_COPY)  # its lock belongs to the map too

    # At places of their own, and not at that of the descriptor: processes that were forked share it, and may all write
    # the same content at once.
    def write(self, chunks: Iterable[bytes]) -> None:
        """Write from the first byte on."""
        at = 0
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                count = io.call(os.pwrite, self._descriptor, rest, at)
                rest, at = rest[count:], at + count

    def publish(self) -> None:
        """Give it its name, durable; another process that was forked may have done so."""
        io.call(os.fsync, self._descriptor)
        try:
            io.call(os.replace, self._temporary, self._path)
        except FileNotFoundError:
            found, own = io.status(self._path), io.call(os.fstat, self._descriptor)
            if found is None or (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
                raise
        with suppress(OSError):
            lock(self._descriptor, is_exclusive=False, is_waiting=True)
        sync_folder(self._path.parent)


def _end_reserved(descriptor: int, temporary: Path, process: int) -> None:
    if os.getpid() == process:  # a process that was forked leaves the file to the one that made it
        with suppress(OSError):
            os.unlink(temporary)
    os.close(descriptor)
