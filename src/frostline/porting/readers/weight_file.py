"""The one door to files of weights: regular files only, read by offset, the same from the first byte to the last."""

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

_LONGEST = 600  # letters of what an error says was received
_CHUNK_BYTES = 1 << 22
_BLOCK_BYTES = 4_096  # disks and downloads write whole blocks
_MIN_UNWRITTEN_BYTES = 1 << 16


class WeightFile(io.RawIOBase):
    """A file that is open for reading; also the raw file that `zipfile` reads from.

    Args:
        path: A regular file, or a link to one. Pipes, devices and folders are refused.

    Attributes:
        stamp: What tells whether a file is still the same: device, inode, size, time of the last change.
        parts: The stamp of every other file that was read for this one, by its path from this file's folder.

    Raises:
        PortError: If it is none, or cannot be opened.
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
                do="pass the path of the file itself; of a checkpoint in a folder, the folder as it was saved.",
            )  # fmt: skip
        self.size, self.num_links = self._opened.st_size, self._opened.st_nlink
        self.stamp = stamp_of(self._opened)
        self.parts: dict[str, Stamp] = {}

    def read_at(self, offset: int, count: int) -> bytes:
        """The `count` bytes that begin at `offset`.

        Raises:
            PortError: If the file does not hold them.
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
            raise self.damaged(f"bytes {offset} to {offset + count} are named, and the file holds {self.size}")

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
        return self.damaged(f"it became shorter than {self.size} bytes while it was read")

    def start(self, count: int) -> bytes:
        """The first `count` bytes, fewer if the file is shorter."""
        return self.read_at(0, min(count, self.size))

    def digest(self, is_over: Event | None = None) -> str:
        """The SHA-256 of the file, in hexadecimal digits.

        Args:
            is_over: Once it is set, nothing more is read, and the digest is that of what was.
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
            is_over: As of `digest`.

        Raises:
            PortError: If it is no longer what was read.
        """
        with WeightFile(self.path.parent / name) as part:
            self.record(name, part.stamp)
            found = part.digest(is_over)
            part.check_unchanged()
        return found

    def record(self, name: str, stamp: Stamp) -> None:
        """Note that another file is read for this one; one and the same for as long as this one is open.

        Args:
            name: Its path from this file's folder.
            stamp: As of `WeightFile.stamp`.

        Raises:
            PortError: If it was read before, and has changed since.
        """
        before = self.parts.setdefault(name, stamp)
        if before != stamp:
            raise _changed(self.path.parent / name, before[2], stamp[2])

    def check_unchanged(self) -> None:
        """Raises `PortError` if the file was written to since it was opened."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != self.stamp[2:]:
            raise self.changed(now.st_size)

    def check_parts(self) -> None:
        """Raises `PortError` if a file that was read for this one is another by now."""
        for name in sorted(self.parts):
            with WeightFile(self.path.parent / name) as part:
                self.record(name, part.stamp)

    def check_written(self) -> None:
        """Refuse a file whose last eighth or more is zeros that begin where a block does: it is still being written.

        Downloads and copies that set the length of a file first leave it so, and formats without checksums would give
        zeros for weights. Zeros that a network holds begin at such a place once in 512 times.

        Raises:
            PortError: It says where the zeros begin.
        """
        at = self.size
        while at > 0:
            start = max(0, at - _CHUNK_BYTES) if at < self.size else max(0, at - _MIN_UNWRITTEN_BYTES)
            left = self.read_at(start, at - start).rstrip(b"\0")
            at = start + len(left)
            if left:
                break
        count = self.size - at
        is_at_block = -at % _BLOCK_BYTES < 8  # the last number before them may end with zeros, too
        if count >= max(_MIN_UNWRITTEN_BYTES, self.size // 8) and is_at_block:
            raise self.damaged(f"nothing but zeros in its last {count} of {self.size} bytes")

    def changed(self, size: int) -> PortError:
        """The error for a file that has `size` bytes now, and had others when it was opened."""
        return _changed(self.path, self.size, size)

    def check_no_key(self, key: str | None) -> None:
        """Raises `PortError` if an entry was asked for, in a format that has one network in a file."""
        if key is not None:
            raise self.refused(
                "A file of this format holds one network, so that it takes no key.", f"key={key!r}",
                "leave the key out.",
            )  # fmt: skip

    def damaged(self, received: str) -> PortError:
        """The error for content that contradicts itself."""
        return PortError(
            what="The file of weights is damaged, or still being written.", where=str(self.path),
            received=_clipped(received),
            do="fetch or save the file again, and compare its size or digest with that of its origin.",
        )  # fmt: skip

    def refused(self, what: str, received: str, do: str) -> PortError:
        """The error for content that is intact, and is not read on purpose."""
        return PortError(what=what, where=str(self.path), received=_clipped(received), do=do)

    def readable(self) -> bool:
        """True: `io` asks."""
        return True

    def seekable(self) -> bool:
        """True: `io` asks."""
        return True

    def tell(self) -> int:
        """Where `read` goes on."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to where `read` shall go on."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "a place before the file's first byte")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from here."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._at))
        self._fill(self._at, view[:count])
        self._at += count
        return count

    def close(self) -> None:
        """Close it; more than once is no error."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


@contextmanager
def neighbour(file: WeightFile, name: str, first: WeightFile | None = None) -> Generator[WeightFile]:
    """A file beside `file`, such as one shard of an index.

    Args:
        file: The file that names it.
        name: Its name; a path is refused, since a file must not choose what else is read.
        first: The same file as it was opened before, to read on in what was seen then.

    Raises:
        PortError: If the name leads elsewhere, the file cannot be opened, or it is no longer the one of before.
    """
    refused = file.refused(
        "The file of weights names another file outside of its folder.", repr(name),
        "download the files again: the parts of a checkpoint lie in one folder, and are no links.",
    )  # fmt: skip
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise refused
    with WeightFile(file.path.parent / name) as other:
        # A cache of downloads may hold links into one folder of its own; a link to anywhere else is an attack.
        if other.real_path.parent != file.real_path.parent or other.num_links > 1:
            raise refused
        if first is not None and other.stamp != first.stamp:
            raise first.changed(other.size)
        file.record(name, other.stamp)
        yield other


def _clipped(text: str) -> str:
    """What was received, which may hold names of any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def digest_of_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        PortError: If it is no regular file, or cannot be opened.
    """
    with WeightFile(path) as file:
        return file.digest()


def stamp_of(status: os.stat_result) -> Stamp:
    """What tells whether a file is still the same."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _changed(path: Path, before: int, now: int) -> PortError:
    return PortError(
        what="The file of weights changed while it was read.", where=str(path),
        received=f"{before} bytes at first, {now} now", do="wait until whatever writes it is done, then port again.",
    )  # fmt: skip


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"),
             (stat.S_ISBLK, "a device"), (stat.S_ISSOCK, "a socket"))  # fmt: skip
    return next((name for test, name in kinds if test(mode)), "a file of another kind")


def _unopened(path: Path, error: OSError) -> PortError:
    return PortError(
        what="Cannot open the file of weights.", where=str(path), received=error.strerror or type(error).__name__,
        do="check the path, and that you may read the file.",
    )  # fmt: skip
