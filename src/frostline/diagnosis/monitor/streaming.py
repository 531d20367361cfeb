"""Records as lines of JSON."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.core.io import disk_errors
from frostline.core.new_files import write_atomic

if TYPE_CHECKING:
    from frostline.diagnosis.rules.records import StepRecord


class JsonLines:
    """A file with one record per line, each written at once; numbers that are not finite are null.

    Args:
        path: The file, which must not exist yet.
        first_step: Of a run that goes on: the file may exist, records of its later steps are deleted (a process that
            was killed has done them, and they are done again), and steps are counted from here.

    Raises:
        CacheError: If the file cannot be created.
    """

    def __init__(self, path: str | Path, first_step: int | None = None) -> None:
        self.path, self._first_step = Path(path), first_step or 0
        if first_step is not None:
            _delete_from(self.path, first_step)
        with disk_errors("create", self.path):
            # a line that could not be written is not tried again
            self._file = self.path.open("xb" if first_step is None else "ab", buffering=0)

    def write(self, record: StepRecord) -> None:
        """Append a record: the whole line, or nothing of it.

        Raises:
            CacheError: If the disk is full or fails; the lines before are kept.
        """
        own = replace(record, step=record.step + self._first_step)
        rest = memoryview((json.dumps(_plain(asdict(own)), allow_nan=False) + "\n").encode())
        with disk_errors("write", self.path):
            start = self._file.tell()
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                with suppress(OSError):
                    self._file.truncate(start)
                raise

    def close(self) -> None:
        """Close the file.

        Raises:
            CacheError: If the disk fails.
        """
        with disk_errors("close", self.path):
            self._file.close()


def _delete_from(path: Path, step: int) -> None:
    """Delete the records of this step and of later ones, and lines that are no record."""
    with disk_errors("read", path):
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith(b"\n") and _step_in(line) < step]
    if len(kept) < len(lines):
        write_atomic(path, kept)


def _step_in(line: bytes) -> float:
    """The step of a record; infinite if the line is none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return value
