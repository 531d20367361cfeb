"""The one door to the disk: whole files appear at once, durable, or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from frostline.core.errors import CacheError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from contextlib import ExitStack

Result = TypeVar("Result")

_TEMPORARY = ".part"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # FAT, some network and container disks
_ANY = re.compile(r".+")
_POLL_S = 0.01
_TRIES = 8  # a temporary file that is swept before it could be locked is made anew


class Damaged(CacheError):  # noqa: N818 (the name says what the file is)
    """A file that is missing, or whose content is not what was written; never one that could not be read."""


def call(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Ask the operating system: every call of this module and of the cache passes here, so that tests can fail it."""
    return function(*arguments, **options)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, readable by the owner only: features of private data are private data."""
    with disk_errors("create the folder", path):
        try:
            _make_folders(path)
        except FileNotFoundError as error:
            linked = next((own for own in (path, *path.parents) if own.is_symlink() and not own.exists()), None)
            if linked is None:
                raise
            raise CacheError(
                what=f"Cannot create the folder {path.name or path}: a link stands there that leads nowhere.",
                where=str(linked),
                received=f"a link to {os.readlink(linked)}, which does not exist",
                do="make the folder that the link leads to, or remove the link.",
            ) from error


def _make_folders(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if status(folder) is None]
    for folder in reversed(missing):
        with suppress(FileExistsError):  # made by another process in between
            call(os.mkdir, folder, 0o700)
    found = call(os.stat, path)
    if not stat.S_ISDIR(found.st_mode):
        raise FileExistsError(errno.EEXIST, "a file of that name exists", str(path))


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview], hold: ExitStack | None = None) -> None:
    """Write a file that replaces `path` at once.

    Args:
        path: Of the file.
        chunks: Its content.
        hold: Keeps the file locked until it closes, as a reader does; none keeps it.

    Raises:
        CacheError: If the disk is full or the folder cannot be written; the old file is still there.
    """
    with disk_errors("write", path), _temporary(path, chunks) as (descriptor, temporary):
        if hold is not None:
            hold.callback(os.close, call(os.dup, descriptor))  # the lock belongs to both
        call(os.replace, temporary, path)
        with suppress(OSError):  # others may read it from here on; without locks nothing is deleted either
            lock(descriptor, is_exclusive=False, is_waiting=True)
        _sync_folder(path.parent)


def publish_new(path: Path, chunks: Iterable[bytes | memoryview]) -> bool:
    """Write a file that must not exist yet.

    Returns:
        False if somebody else has published this name: theirs stays.
    """
    with disk_errors("write", path), _temporary(path, chunks) as (_, temporary):
        try:
            call(os.link, temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Two writers at once may both get here: the last one stays, and the other's work is done again.
            if status(path) is not None:
                return False
            call(os.replace, temporary, path)
        _sync_folder(path.parent)
        return True


def check_new(path: Path, option: str, *, others: str = "or remove the file first") -> None:
    """Raise if something stands where a new file is to be written: results are never replaced silently.

    Args:
        path: Of the file.
        option: The argument or option that names it.
        others: What else the reader can do than to pass another path.
    """
    with disk_errors("look at", path):
        is_used = status(path) is not None
    if is_used:
        raise DataError(
            what="A file of this name exists already, and is not replaced.", where=option, received=str(path),
            do=f"pass another path; {others}.",
        )  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, at once."""
    write_atomic(path, [json.dumps(value, indent=1, allow_nan=False).encode()])


def read_json(path: Path, *, max_bytes: int = 64 * 2**20, bytes_per_value: int = 0) -> Any:
    """Read a JSON file of ours; one beyond a megabyte must have `bytes_per_value`, since `[],` fills much memory.

    Raises:
        Damaged: If it is not JSON, or names a key twice.
        CacheError: If it is missing, too large or cannot be read.
    """
    with disk_errors("read", path):
        data = read_bytes(path, max_bytes=max_bytes)
    try:
        if len(data) > 2**20 and sum(map(data.count, (b"[", b"{", b","))) * bytes_per_value > len(data):
            raise ValueError("more values than a file of this size may have")
        return json.loads(data, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise Damaged(
            what="A file is not the JSON that Frostline wrote.", where=str(path), received=str(error),
            do="delete the file; it is written anew on the next run.",
        ) from error  # fmt: skip


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file that is no link and not larger than expected."""
    descriptor, size = open_regular(path)
    try:
        if size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
        parts: list[bytes] = []
        while part := call(os.read, descriptor, min(max_bytes, 2**20)):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> tuple[int, int]:
    """(descriptor, bytes) of a regular file; a link is not followed, a pipe does not block.

    Raises:
        Damaged: If something else stands there.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = call(os.open, path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise not_a_file(path) from error
        raise
    try:
        found = call(os.fstat, descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise not_a_file(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found.st_size


def not_a_file(path: Path) -> Damaged:
    """What is said of a link, a folder or a pipe where a file of ours should be."""
    return Damaged(
        what="A file of Frostline is not a regular file.", where=str(path), received="a link, a folder or a pipe",
        do="remove it; files of Frostline are never links.",
    )  # fmt: skip


def check_folder(path: Path) -> None:
    """Raise if something else than a folder stands there: a link inside of a cache may lead to files of others."""
    with disk_errors("look at", path):
        found = status(path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise CacheError(
            what="A folder of the cache is a link or a file.", where=str(path), received="no folder",
            do="remove it; folders inside of a cache are never links. The folder of the cache itself may be one.",
        )  # fmt: skip


def status(path: Path) -> os.stat_result | None:
    """What the file system says of a path itself, links not followed; None if nothing is there."""
    try:
        return call(os.lstat, path)
    except FileNotFoundError:
        return None


def names_in(folder: Path) -> list[str]:
    """Names in a folder, in order; none if there is no such folder."""
    try:
        return sorted(call(os.listdir, folder))
    except FileNotFoundError:
        return []


def remove(path: Path) -> bool:
    """Delete a file; False if it was not there."""
    try:
        call(os.unlink, path)
    except FileNotFoundError:
        return False
    return True


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
        call(fcntl.flock, descriptor, kind if is_waiting else kind | fcntl.LOCK_NB)
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
        descriptor = call(os.open, path, flags | os.O_CLOEXEC, 0o600)
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
        for name in names_in(folder):
            if is_temporary(name, names):
                with suppress(OSError):
                    count += remove_unlocked(folder / name)
    return count


def is_temporary(name: str, names: re.Pattern[str]) -> bool:
    """Whether this is what a file of such a name is called while it is written."""
    stem, _, token = name.removesuffix(_TEMPORARY).rpartition(".")
    is_ours = len(token) == 32 and set(token) <= set("0123456789abcdef")
    return name.endswith(_TEMPORARY) and is_ours and names.fullmatch(stem) is not None


def remove_unlocked(path: Path) -> bool:
    """Delete a file, unless anybody has it locked or locks cannot be asked for."""
    descriptor = call(os.open, path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return lock(descriptor, is_exclusive=True) and remove(path)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(verb: str, path: Path) -> Generator[None]:
    """Turn what the operating system says into an error with a remedy."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free some space on this disk, or use another folder; files that were finished are kept.",
            errno.EDQUOT: "free some of your quota, or use another folder; files that were finished are kept.",
            errno.EACCES: "make the folder readable and writable for you, or use another folder.",
            errno.EROFS: "use a folder on a disk that is not read-only."
            if not verb.startswith("delete")
            else "the disk is read-only, and nothing was deleted: make it writable, then run again.",
            errno.ENOTDIR: "use a path whose parents are folders.",
            errno.EEXIST: "use a path that is not a file.",
            errno.ENOENT: "check that no other process deletes the folder, then run again.",
            errno.EMFILE: "close other files, or allow more (`ulimit -n 65536`), then run again; nothing was lost.",
            errno.ENOMEM: "free some memory, or allow this process more (`ulimit -v`); nothing was lost.",
        }.get(error.errno or 0, "check the disk and the path, then run again; nothing was lost.")
        raise CacheError(
            what=f"Cannot {verb} {path.name or path}.", where=str(path),
            received=f"{error.strerror or error}", do=remedy,
        ) from error  # fmt: skip


@contextmanager
def _temporary(path: Path, chunks: Iterable[bytes | memoryview]) -> Generator[tuple[int, Path]]:
    descriptor, temporary = _open_temporary(path)
    try:
        for chunk in chunks:
            _write_all(descriptor, chunk)
        call(os.fsync, descriptor)
        yield descriptor, temporary
    finally:
        try:
            with suppress(OSError):  # what is left is swept later; the first error is the one to tell
                remove(temporary)
        finally:
            os.close(descriptor)  # and with it goes the lock


def _open_temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked as long as it is open: nobody sweeps it."""
    for _ in range(_TRIES):
        temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}{_TEMPORARY}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = call(os.open, temporary, flags, 0o600)
        try:
            with suppress(OSError):  # a disk without locks: nobody can sweep there either
                lock(descriptor, is_exclusive=True, is_waiting=True)
            if call(os.fstat, descriptor).st_nlink:  # else it was swept before it was locked
                return descriptor, temporary
        except BaseException:
            with suppress(OSError):
                remove(temporary)
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, "new files disappear at once", str(path.parent))


def _write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk).cast("B")
    while rest:
        rest = rest[call(os.write, descriptor, rest[: 2**26]) :]


def _sync_folder(folder: Path) -> None:
    descriptor = call(os.open, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names stand once.

    Raises:
        ValueError: If a name stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
