"""The output of the command: one JSON object or text on standard output, errors in four parts, exit codes."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import typer

from frostline.core.errors import FrostlineError

INTERRUPTED = 130


def show(value: Any, text: str, *, as_json: bool) -> None:
    """Print the result: the value as one JSON object, or the text."""
    sys.stdout.write((json.dumps(plain(value), indent=1) if as_json else text) + "\n")


def plain(value: Any) -> Any:
    """Records, paths and dtypes as JSON has them; numbers that are not finite are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


@contextmanager
def errors_in_four_parts(*, as_json: bool) -> Generator[None]:
    """Our errors as text on standard error, or as JSON on standard output; exit codes 1 and 130."""
    try:
        yield
    except FrostlineError as error:
        if as_json:
            sys.stdout.write(json.dumps({"error": error.parts()}, indent=1) + "\n")
        else:
            sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        parts = {
            "what": "Interrupted.",
            "where": "the running command",
            "received": "Ctrl-C or SIGTERM",
            "do": "run the same command again, fit with --resume: finished epochs and shards of the cache are kept.",
        }
        if as_json:
            sys.stdout.write(json.dumps({"error": parts}, indent=1) + "\n")
        else:
            sys.stderr.write(f"{FrostlineError(**parts)}\n")
        raise typer.Exit(INTERRUPTED) from None


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV (RFC 4180), without a line break at the end."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().removesuffix("\n")


def table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Columns as wide as their widest entry."""
    everything = [header, *rows]
    widths = [max(len(row[at]) for row in everything) for at in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
