"""The kind of disk that a folder lies on, and the memory of this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.core import io

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOUNTS = Path("/proc/self/mountinfo")
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# A server that fails, or a file that another machine cuts, ends a process that has mapped it (SIGBUS); a read raises.
_NETWORK = ("nfs", "cifs", "smb", "fuse", "lustre", "ceph", "9p", "afs", "gpfs", "beegfs", "glusterfs", "ocfs2",
            "gfs2", "orangefs", "pvfs2", "virtiofs", "wekafs", "coda", "ncpfs")  # fmt: skip
# What was reserved in a file of these may still find no room when it is written a second time.
_COPY_ON_WRITE = ("btrfs", "zfs", "bcachefs")
_IN_MEMORY = ("tmpfs", "ramfs")
_PLAIN = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"}
_MAX_BYTES = 2**24
_MEMORY_IF_UNKNOWN = 2**33


def is_network(path: Path) -> bool:
    """True if a file lies on another machine, as far as the kernel's list of mounts says."""
    return _kind(path).startswith(_NETWORK)


def can_reserve(folder: Path) -> bool:
    """True if room that a file has reserved is its own, on a local disk: what is mapped can be written without fail."""
    return not _kind(folder).startswith((*_NETWORK, *_COPY_ON_WRITE, *_IN_MEMORY))


def locks_follow_maps(folder: Path) -> bool:
    """True if a file that is mapped stays locked when its descriptors are closed: the kernel's map holds the file.

    An overlay maps the file below, and drops the one that was locked.
    """
    return _kind(folder) in _PLAIN


def _kind(path: Path) -> str:
    """The file system of a path; empty where it cannot be found out."""
    with suppress(OSError):
        device = io.call(os.stat, path).st_dev
        return _kinds(_lines(_MOUNTS)).get(f"{os.major(device)}:{os.minor(device)}", "")
    return ""


def memory_bytes() -> int:
    """Bytes of memory that this process may have at most: of the machine, or of the group that it is limited to."""
    found: list[int] = []
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _GROUP_LIMITS:
        with suppress(OSError, ValueError, IndexError):  # `max` is no number
            found.append(int(_lines(path)[0]))
    return min(found, default=_MEMORY_IF_UNKNOWN)


def _lines(path: Path) -> list[str]:
    return io.read_bytes(path, max_bytes=_MAX_BYTES).decode(errors="replace").splitlines()


def _kinds(lines: Iterable[str]) -> dict[str, str]:
    """File system by device.

    Example:
        >>> _kinds(["36 35 0:52 / /mnt rw,noatime shared:1 - nfs4 host:/share rw,vers=4.2"])
        {'0:52': 'nfs4'}
    """
    found: dict[str, str] = {}
    for line in lines:
        before, _, behind = line.partition(" - ")
        if behind and len(before.split()) > 2:
            found[before.split()[2]] = behind.split()[0]
    return found
