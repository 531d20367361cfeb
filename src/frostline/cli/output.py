"""The output of the command: one JSON object or text on standard output, errors in four parts, exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand

from frostline.core.errors import FrostlineError
from frostline.core.summaries import plain
from frostline.core.summaries import table as table

INTERRUPTED = 130
# Where the library names an argument of a call, the command line has an option.
_ARGUMENT = re.compile(r"\b(fit|predict|export|split_share)\((\w+)=[^()]*\)")
_NAMES = ("epochs", "batch_size", "lr", "seed", "optimizer", "scheduler", "patience", "metric", "out", "resume",
          "overwrite", "val", "freeze", "thaw", "data")  # fmt: skip
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _NAMES} | {
    "num_workers": "--workers", "frozen_pass": "--frozen-pass", "path": "--out", "share": "--val-share",
}  # fmt: skip


_WRONG_USAGE: Any = typer.BadParameter.__mro__[1]  # of click, which newer versions of typer hold themselves


class PlainCommand(TyperCommand):
    """A command that says what it takes where it is called with too few or too many arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click does it; a wrong call gets the whole right one."""
        try:
            return super().parse_args(ctx, args)
        except _WRONG_USAGE as error:
            needed = [own for own in self.params if own.required]
            call = [own.name.upper() for own in needed if own.param_type_name == "argument"]
            call += [f"{own.opts[0]} {own.name.upper()}" for own in needed if own.param_type_name != "argument"]
            said = f"{error.message.rstrip('.')}. " if error.message else ""
            error.message = (
                f"{said}Write {ctx.command_path} {' '.join(call)}, each of these once; "
                "a path with spaces stands in quotes."
            )
            raise


def show(value: Any, text: str, *, as_json: bool) -> None:
    """Print the result: the value as one JSON object, or the text."""
    sys.stdout.write((json.dumps(plain(value), indent=1) if as_json else text) + "\n")


@contextmanager
def errors_in_four_parts(*, as_json: bool) -> Generator[None]:
    """Our errors as text on standard error, or as JSON on standard output; exit codes 1 and 130."""
    try:
        yield
    except FrostlineError as error:
        parts = {**error.parts(), "where": with_options(error.where)}
        if as_json:
            sys.stdout.write(json.dumps({"error": parts}, indent=1) + "\n")
        else:
            sys.stderr.write(f"{FrostlineError(**parts)}\n")
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


def with_options(where: str) -> str:
    """The place of an error, arguments of calls written as options.

    Example:
        >>> with_options("fit(batch_size=...)"), with_options("fit(loss=...)")
        ('--batch-size', 'fit(loss=...)')
    """
    return _ARGUMENT.sub(lambda found: _OPTIONS.get(found[2], found[0]), where)


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV (RFC 4180), without a line break at the end."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().removesuffix("\n")
