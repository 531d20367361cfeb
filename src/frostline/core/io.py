"""The one door to the disk: whole files appear at once, durable, or not at all."""

from __future__ import annotations

import errno
import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.core.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

_TEMPORARY = ".part"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # FAT, some network and container disks


def make_folder(path: Path) -> None:
    """Create a folder and its parents, readable by the owner only: features of private data are private data."""
    with disk_errors("create the folder", path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            raise FileExistsError(errno.EEXIST, "a file of that name exists", str(path))


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file that replaces `path` at once.

    Raises:
        CacheError: If the disk is full or the folder cannot be written; the old file is still there.
    """
    with disk_errors("write", path), _temporary(path, chunks) as temporary:
        os.replace(temporary, path)
        _sync_folder(path.parent)


def publish_new(path: Path, chunks: Iterable[bytes | memoryview]) -> bool:
    """Write a file that must not exist yet.

    Returns:
        False if somebody else has published this name: theirs stays.
    """
    with disk_errors("write", path), _temporary(path, chunks) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Two writers at once may both get here: the last one stays, and the other's work is done again.
            if path.exists():
                return False
            os.replace(temporary, path)
        _sync_folder(path.parent)
        return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, at once."""
    write_atomic(path, [json.dumps(value, indent=1, allow_nan=False).encode()])


def read_json(path: Path, *, max_bytes: int = 64 * 2**20) -> Any:
    """Read a JSON file of ours.

    Raises:
        CacheError: If it is missing, too large, not JSON, or names a key twice.
    """
    with disk_errors("read", path):
        data = read_bytes(path, max_bytes=max_bytes)
    try:
        return json.loads(data, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise CacheError(
            what="A file is not the JSON that Frostline wrote.",
            where=str(path),
            received=str(error),
            do="delete the file; it is written anew on the next run.",
        ) from error


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file that is no link and not larger than expected."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
        return file.read(max_bytes)


def sweep(folder: Path) -> int:
    """Delete what a killed process left half-written; returns how many files."""
    leftovers = [path for path in folder.glob(f"*{_TEMPORARY}") if not _is_alive(path)]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


@contextmanager
def disk_errors(verb: str, path: Path) -> Generator[None]:
    """Turn what the operating system says into an error with a remedy."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free some space on this disk, or use another folder; finished shards are kept.",
            errno.EDQUOT: "free some of your quota, or use another folder; finished shards are kept.",
            errno.EACCES: "make the folder writable for you, or use another folder.",
            errno.EROFS: "use a folder on a disk that is not read-only.",
            errno.ENOTDIR: "use a path whose parents are folders.",
            errno.EEXIST: "use a path that is not a file.",
        }.get(error.errno or 0, "check the disk and the path, then run again; nothing was lost.")
        raise CacheError(
            what=f"Cannot {verb} {path.name or path}.",
            where=str(path),
            received=f"{error.strerror or error}",
            do=remedy,
        ) from error


@contextmanager
def _temporary(path: Path, chunks: Iterable[bytes | memoryview]) -> Generator[Path]:
    temporary = path.parent / f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_TEMPORARY}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                _write_all(file, chunk)
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_all(file: Any, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_alive(path: Path) -> bool:
    """True if the process that writes this temporary file still runs (on this machine)."""
    owner = path.name.removesuffix(_TEMPORARY).rpartition(".")[2].partition("-")[0]
    if not owner.isdigit():
        return False
    return int(owner) != os.getpid() and Path(f"/proc/{owner}").exists()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
