"""The one door to the disk: what stands there, reading it, and errors that say what to do."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from frostline.core.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Result = TypeVar("Result")


class Damaged(CacheError):  # noqa: N818 (the name says what the file is)
    """A file that is missing, or whose content is not what was written; never one that could not be read."""


def call(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Ask the operating system: every call that reads or writes a cache passes here, so that tests can fail it."""
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


def read_json(path: Path, *, max_bytes: int = 64 * 2**20, bytes_per_value: int = 0) -> Any:
    """Read a JSON file of ours; one beyond a megabyte must have `bytes_per_value`, since `[],` fills much memory.

    Raises:
        Damaged: If it is not JSON, or names a key twice.
        CacheError: If it is missing, too large or cannot be read.
    """
    with disk_errors("read", path):
        data = read_bytes(path, max_bytes=max_bytes)
    try:
        if has_too_many_values(data, bytes_per_value):
            raise ValueError("more values than a file of this size may have")
        return json.loads(data, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise Damaged(
            what="A file is not the JSON that Frostline wrote.", where=str(path), received=str(error),
            do="delete the file; it is written anew on the next run.",
        ) from error  # fmt: skip


def has_too_many_values(data: bytes, bytes_per_value: int) -> bool:
    """Whether JSON beyond a megabyte holds more values than one per so many bytes: they would fill much memory."""
    return len(data) > 2**20 and sum(map(data.count, (b"[", b"{", b","))) * bytes_per_value > len(data)


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


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names stand once.

    Raises:
        ValueError: If a name stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
