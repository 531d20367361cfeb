"""Access to files of weights: regular files only, read by offset, and checked for changes while they are read."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frostline.core.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Generator
    from threading import Event

    Stamp = tuple[int, int, int, int]

_LONGEST = 600  # characters of the part `received` of an error
_CHUNK_BYTES = 1 << 22
_BLOCK_BYTES = 4_096  # file systems and download tools write whole blocks
_MIN_UNWRITTEN_BYTES = 1 << 16


class WeightFile(io.RawIOBase):
    """A file that is open for reading; also the raw file that `zipfile` reads from.

    Args:
        path: A regular file, or a link to one. Pipes, devices and folders are refused.

    Attributes:
        stamp: Device, inode, size and modification time, to detect changes.
        parts: The stamp of every other file that was read for this one, by its path from this file's folder.

    Raises:
        PortError: If the path is not a regular file, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._at, self._descriptor = 0, -1
        self.path, self.real_path = path, Path(os.path.realpath(path))
        try:
            self._descriptor = os.open(self.real_path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
        except OSError as error:
            raise _unopened(path, error) from error
        self._opened = os.fstat(self._descriptor)
        if not stat.S_ISREG(self._opened.st_mode):
            self.close()
            raise PortError(
                what="Only regular files are read for weights.", where=str(path), received=_kind(self._opened.st_mode),
                do="pass the path of the file itself; for a checkpoint in a folder, pass the folder as it was saved.",
            )  # fmt: skip
        self.size, self.num_links = self._opened.st_size, self._opened.st_nlink
        self.stamp = stamp_of(self._opened)
        self.parts: dict[str, Stamp] = {}

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes that begin at `offset`.

        Raises:
            PortError: If the file is shorter.
        """
        self._check_range(offset, count)
        parts: list[bytes] = []
        while count > 0:
            part = os.pread(self._descriptor, min(count, 1 << 30), offset)
            if not part:
                raise self._shortened()
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def array_at(self, offset: int, count: int) -> np.ndarray:
        """As `read_at`, in memory of its own that may be written to: no further copy makes a tensor of it."""
        self._check_range(offset, count)
        array = np.empty(count, np.uint8)
        self._fill(offset, array.data)
        return array

    def _check_range(self, offset: int, count: int) -> None:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise self.damaged(
                f"bytes {offset} to {offset + count} are referred to, but the file has {self.size} bytes"
            )

    def _fill(self, offset: int, view: memoryview) -> None:
        at = 0
        while at < len(view):
            part = view[at : at + (1 << 30)]
            if hasattr(os, "preadv"):
                count = os.preadv(self._descriptor, [part], offset + at)
            else:
                count = len(found := os.pread(self._descriptor, len(part), offset + at))
                part[:count] = found
            if not count:
                raise self._shortened()
            at += count

    def _shortened(self) -> PortError:
        return self.damaged(f"the file became shorter than {self.size} bytes while it was read")

    def start(self, count: int) -> bytes:
        """The first `count` bytes, fewer if the file is shorter."""
        return self.read_at(0, min(count, self.size))

    def digest(self, is_over: Event | None = None) -> str:
        """The SHA-256 of the file, in hexadecimal digits.

        Args:
            is_over: Once it is set, reading stops, and the digest covers only the bytes read so far.
        """
        whole = hashlib.sha256()
        for offset in range(0, self.size, _CHUNK_BYTES):
            if is_over is not None and is_over.is_set():
                break
            whole.update(self.read_at(offset, min(_CHUNK_BYTES, self.size - offset)))
        return whole.hexdigest()

    def digest_of_part(self, name: str, is_over: Event | None = None) -> str:
        """The SHA-256 of a file that was read for this one.

        Args:
            name: Its path from this file's folder.
            is_over: As in `digest`.

        Raises:
            PortError: If it has changed since it was read.
        """
        with WeightFile(self.path.parent / name) as part:
            self.record(name, part.stamp)
            found = part.digest(is_over)
            part.check_unchanged()
        return found

    def record(self, name: str, stamp: Stamp) -> None:
        """Record that another file is read for this one; it must not change while this one is open.

        Args:
            name: Its path from this file's folder.
            stamp: As `WeightFile.stamp`.

        Raises:
            PortError: If it was recorded before, and has changed since.
        """
        before = self.parts.setdefault(name, stamp)
        if before != stamp:
            raise _changed(self.path.parent / name, before[2], stamp[2])

    def check_unchanged(self) -> None:
        """Raise `PortError` if the file was changed since it was opened."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != self.stamp[2:]:
            raise self.changed(now.st_size)

    def check_parts(self) -> None:
        """Raise `PortError` if a file that was read for this one was changed since."""
        for name in sorted(self.parts):
            with WeightFile(self.path.parent / name) as part:
                self.record(name, part.stamp)

    def check_written(self) -> None:
        """Refuse a file of which the last eighth or more is zeros that begin at a block boundary: it is incomplete.

        Downloads and copies that set the length of a file first leave such zeros, which a reader without checksums
        would return as weights. Zeros that are weights begin at a block boundary by chance in 1 of 512 files.

        Raises:
            PortError: If the file ends with such zeros.
        """
        at = self.size
        while at > 0:
            start = max(0, at - _CHUNK_BYTES) if at < self.size else max(0, at - _MIN_UNWRITTEN_BYTES)
            left = self.read_at(start, at - start).rstrip(b"\0")
            at = start + len(left)
            if left:
                break
        count = self.size - at
        is_at_block = -at % _BLOCK_BYTES < 8  # the last number before them may end with zero bytes
        if count >= max(_MIN_UNWRITTEN_BYTES, self.size // 8) and is_at_block:
            raise self.damaged(f"only zeros in the last {count} of {self.size} bytes")

    def changed(self, size: int) -> PortError:
        """The error for a file that has changed since it was opened, and has `size` bytes now."""
        return _changed(self.path, self.size, size)

    def check_no_key(self, key: str | None) -> None:
        """Raise `PortError` if a key was passed; for formats with a single network per file."""
        if key is not None:
            raise self.refused(
                "A file of this format contains a single network and no entries to select by a key.", f"key={key!r}",
                "leave the key out.",
            )  # fmt: skip

    def damaged(self, received: str) -> PortError:
        """The error for inconsistent or incomplete content."""
        return PortError(
            what="The file of weights is damaged, or still being written.", where=str(self.path),
            received=clipped(received),
            do="fetch or save the file again, and compare its size or digest with that of its origin.",
        )  # fmt: skip

    def refused(self, what: str, received: str, do: str) -> PortError:
        """The error for intact content that is not supported, or refused for safety."""
        return PortError(what=what, where=str(self.path), received=clipped(received), do=do)

    def readable(self) -> bool:
        """True, as `io.RawIOBase` requires."""
        return True

    def seekable(self) -> bool:
        """True, as `io.RawIOBase` requires."""
        return True

    def tell(self) -> int:
        """The offset of the next `read`."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the offset of the next `read`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "an offset before the start of the file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the current offset."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._at))
        self._fill(self._at, view[:count])
        self._at += count
        return count

    def close(self) -> None:
        """Close the file; closing it twice has no effect."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


# The path that the user names may be a link, since caches of downloads are made of links. A name inside a file is not
# followed: it could point to anything that this process can read.
@contextmanager
def neighbour(file: WeightFile, name: str, first: WeightFile | None = None) -> Generator[WeightFile]:
    """Open a file in the folder of `file`, such as one shard of an index.

    Args:
        file: The file that names the other one.
        name: The name of the other file. A path is refused: a file must not be able to open arbitrary files.
        first: The same file as it was opened before; it must not have changed since.

    Raises:
        PortError: If the name leads out of the folder, the file cannot be opened, or it has changed since.
    """
    refused = file.refused(
        "The file of weights names a file outside of its folder.", repr(name),
        "download all files again into one folder, as files and not as links.",
    )  # fmt: skip
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise refused
    with WeightFile(file.path.parent / name) as other:
        # A download cache may contain links into one folder of its own; a link to any other place is an attack.
        if other.real_path.parent != file.real_path.parent or other.num_links > 1:
            raise refused
        if first is not None and other.stamp != first.stamp:
            raise first.changed(other.size)
        file.record(name, other.stamp)
        yield other


def clipped(text: str) -> str:
    """The text, shortened: names in files may have any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def digest_of_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        PortError: If the path is not a regular file, or it cannot be opened.
    """
    with WeightFile(path) as file:
        return file.digest()


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file, to detect changes."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _changed(path: Path, before: int, now: int) -> PortError:
    return PortError(
        what="The file of weights changed while it was read.", where=str(path),
        received=f"{before} bytes at first, {now} now",
        do="wait until the program that writes the file has finished, then port again.",
    )  # fmt: skip


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"),
             (stat.S_ISBLK, "a device"), (stat.S_ISSOCK, "a socket"))  # fmt: skip
    return next((name for test, name in kinds if test(mode)), "a file of another kind")


def _unopened(path: Path, error: OSError) -> PortError:
    return PortError(
        what="Cannot open the file of weights.", where=str(path), received=error.strerror or type(error).__name__,
        do="check the path and the permissions of the file.",
    )  # fmt: skip
