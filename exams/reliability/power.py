"""What a disk holds after the power went: what was synchronised, and of everything else any part or nothing.

`Disk` stands in for `frostline.core.io.call` and notes, beside doing it, what each call makes durable. Content of a
file is durable as of its last fsync, an entry of a folder as of the folder's last fsync; others may be there or not.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from frostline.core import io


class Disk:
    """The durable state of a folder while calls change it.

    Args:
        root: The folder; it is empty.

    Attributes:
        moments: After every call that changes something: (durable entries, those that may be there), path to content.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.real = root, io.call
        self.synced: dict[int, bytes] = {}  # content by inode
        self.entries: dict[str, int] = {}  # what the folders say, path to inode
        self.durable: dict[str, int] = {}  # what they say for certain
        self.moments: list[tuple[dict[str, bytes], dict[str, bytes]]] = []

    def __call__(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Do it, and note what it has made durable."""
        result = self.real(function, *arguments, **options)
        name = getattr(function, "__name__", "")
        if name == "open" and arguments[1] & os.O_CREAT:
            self._enter(arguments[0])
        elif name in ("link", "replace", "rename"):
            source, target = (Path(arguments[0]), Path(arguments[1])) if name != "rename" else (
                Path(function.__self__), Path(arguments[0]))  # fmt: skip
            if name != "link":
                self.entries.pop(str(source), None)
            self._enter(target)
        elif name == "unlink":
            self.entries.pop(str(arguments[0]), None)
        elif name == "fsync":
            self._sync(arguments[0])
        else:
            return result
        self.moments.append((self._image(self.durable), self._image(self.entries)))
        return result

    def _enter(self, path: Any) -> None:
        if str(path).startswith(str(self.root)):
            self.entries[str(path)] = os.stat(path).st_ino

    def _sync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not path.is_dir():
            self.synced[os.fstat(descriptor).st_ino] = path.read_bytes()
            return
        inside = [own for own in {*self.durable, *self.entries} if Path(own).parent == path]
        for own in inside:
            if own in self.entries:
                self.durable[own] = self.entries[own]
            else:
                self.durable.pop(own, None)

    def _image(self, entries: dict[str, int]) -> dict[str, bytes]:
        return {path: self.synced.get(inode, b"") for path, inode in entries.items()}


def after(moment: tuple[dict[str, bytes], dict[str, bytes]], root: Path, other: Path, chance: random.Random) -> None:
    """Make a folder as the disk may hold it if the power went then.

    Args:
        moment: One of `Disk.moments`.
        root: The folder that was built.
        other: The new one.
        chance: Which entries that are not durable are there.
    """
    durable, volatile = moment
    for path in sorted({*durable, *volatile}):
        content = chance.choice([durable.get(path), volatile.get(path)])
        if content is not None:
            target = other / Path(path).relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
