"""Records as lines of JSON."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.core.io import disk_errors

if TYPE_CHECKING:
    from frostline.diagnosis.rules.records import StepRecord


class JsonLines:
    """A file with one record per line, each written at once; numbers that are not finite are null.

    Raises:
        CacheError: If the file cannot be created.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with disk_errors("create", self.path):
            self._file = self.path.open("xb", buffering=0)  # a line that could not be written is not tried again

    def write(self, record: StepRecord) -> None:
        """Append a record: the whole line, or nothing of it.

        Raises:
            CacheError: If the disk is full or fails; the lines before are kept.
        """
        rest = memoryview((json.dumps(_plain(asdict(record)), allow_nan=False) + "\n").encode())
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


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return value
