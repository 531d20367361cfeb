"""New files: they appear at once, whole and durable, or not at all; what a killed process leaves is swept later."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from frostline.core import io
from frostline.core.errors import DataError
from frostline.core.locks import lock, remove_unlocked

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from contextlib import ExitStack
    from pathlib import Path

_TEMPORARY = ".part"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # FAT, some network and container disks
_ANY = re.compile(r".+")
_TRIES = 8  # a temporary file that is swept before it could be locked is made anew


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview], hold: ExitStack | None = None) -> None:
    """Write a file that replaces `path` at once.

    Args:
        path: Of the file.
        chunks: Its content.
        hold: Keeps the file locked until it closes, as a reader does; none keeps it.

    Raises:
        CacheError: If the disk is full or the folder cannot be written; the old file is still there.
    """
    with io.disk_errors("write", path), _temporary(path, chunks) as (descriptor, temporary):
        if hold is not None:
            hold.callback(os.close, io.call(os.dup, descriptor))  # the lock belongs to both
        io.call(os.replace, temporary, path)
        with suppress(OSError):  # others may read it from here on; without locks nothing is deleted either
            lock(descriptor, is_exclusive=False, is_waiting=True)
        sync_folder(path.parent)


def publish_new(path: Path, chunks: Iterable[bytes | memoryview]) -> bool:
    """Write a file that must not exist yet.

    Returns:
        False if somebody else has published this name: theirs stays.
    """
    with io.disk_errors("write", path), _temporary(path, chunks) as (_, temporary):
        try:
            io.call(os.link, temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Two writers at once may both get here: the last one stays, and the other's work is done again.
            if io.status(path) is not None:
                return False
            io.call(os.replace, temporary, path)
        sync_folder(path.parent)
        return True


def check_new(path: Path, option: str, *, others: str = "or remove the file first") -> None:
    """Raise if something stands where a new file is to be written: results are never replaced silently.

    Args:
        path: Of the file.
        option: The argument or option that names it.
        others: What else the reader can do than to pass another path.
    """
    with io.disk_errors("look at", path):
        is_used = io.status(path) is not None
    if is_used:
        raise DataError(
            what="A file of this name exists already, and is not replaced.", where=option, received=str(path),
            do=f"pass another path; {others}.",
        )  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, at once."""
    write_atomic(path, [json.dumps(value, indent=1, allow_nan=False).encode()])


def sweep(folder: Path, names: re.Pattern[str] = _ANY) -> int:
    """Delete half-written files that nobody can be writing any more: their lock is free.

    Args:
        folder: Where temporary files may lie.
        names: What our files in this folder are called, without the ending of a temporary file.

    Returns:
        How many files were deleted. A folder that cannot be read or written is left as it is.
    """
    count = 0
    with suppress(OSError):
        for name in io.names_in(folder):
            if is_temporary(name, names):
                with suppress(OSError):
                    count += remove_unlocked(folder / name)
    return count


def is_temporary(name: str, names: re.Pattern[str]) -> bool:
    """Whether this is what a file of such a name is called while it is written."""
    stem, _, token = name.removesuffix(_TEMPORARY).rpartition(".")
    is_ours = len(token) == 32 and set(token) <= set("0123456789abcdef")
    return name.endswith(_TEMPORARY) and is_ours and names.fullmatch(stem) is not None


@contextmanager
def _temporary(path: Path, chunks: Iterable[bytes | memoryview]) -> Generator[tuple[int, Path]]:
    descriptor, temporary = open_temporary(path)
    try:
        for chunk in chunks:
            _write_all(descriptor, chunk)
        io.call(os.fsync, descriptor)
        yield descriptor, temporary
    finally:
        try:
            with suppress(OSError):  # what is left is swept later; the first error is the one to tell
                io.remove(temporary)
        finally:
            os.close(descriptor)  # and with it goes the lock


def open_temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked as long as it is open: nobody sweeps it."""
    for _ in range(_TRIES):
        temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}{_TEMPORARY}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = io.call(os.open, temporary, flags, 0o600)
        try:
            with suppress(OSError):  # a disk without locks: nobody can sweep there either
                lock(descriptor, is_exclusive=True, is_waiting=True)
            if io.call(os.fstat, descriptor).st_nlink:  # else it was swept before it was locked
                return descriptor, temporary
        except BaseException:
            with suppress(OSError):
                io.remove(temporary)
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "new files disappear at once", str(path.parent))


def _write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk).cast("B")
    while rest:
        rest = rest[io.call(os.write, descriptor, rest[: 2**26]) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = io.call(os.open, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        io.call(os.fsync, descriptor)
    finally:
        os.close(descriptor)
