"""One hostile file: how it is built, and what a port of it has to say."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = Path(__file__).parents[1] / "files"
CASES: list[Case] = []


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Attributes:
        row: Of the table of hostile inputs (1 to 52) that the tests cover whole.
        what: What is hostile about it.
        build: Writes it into an empty folder, and returns the path that a user would pass.
        says: A part of the error, as a regular expression; empty if the file is read.
        reads: A part of the format or of a note of a file that is harmless once it is read as data; empty otherwise.
        port: Ports it, for those that are refused only where they meet a module; None opens it and loads all arrays.
    """

    row: int
    what: str
    build: Callable[[Path], Path]
    says: str = ""
    reads: str = ""
    port: Callable[[Path], Any] | None = None

    @property
    def name(self) -> str:
        """Row and words."""
        return f"{self.row}: {self.what}"


def raw(row: int, what: str, content: bytes | bytearray, says: str, *, name: str = "file.bin", reads: str = "") -> None:
    """Add a case that is one file of these bytes."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    CASES.append(Case(row, what, build, says, reads))


def built(
    row: int, what: str, says: str = "", *, reads: str = "", port: Callable[[Path], Any] | None = None
) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Add the case that a function builds."""

    def add(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
        CASES.append(Case(row, what, build, says, reads, port))
        return build

    return add


def copied(folder: Path, name: str) -> Path:
    """A copy of a fixture: of a file with its neighbours, or of a folder."""
    source = FILES / name
    shutil.copytree(source if source.is_dir() else source.parent, folder / source.parent.name, dirs_exist_ok=True)
    return folder / source.parent.name / ("" if source.is_dir() else source.name)
