"""The folder of a run: held by one process at a time, and never replaced unasked."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from frostline.core import io
from frostline.core.arguments import as_path
from frostline.core.errors import DataError
from frostline.core.io import disk_errors, make_folder
from frostline.core.locks import held
from frostline.training import has_checkpoint, is_first_rank, settle

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

# A run that was killed leaves worker processes, which hold its folder too: they look every five seconds whether it is
# still there.
_WAIT_S = 6.0


@contextmanager
def run_folders(out: Any, resume: Any, *, overwrite: bool) -> Generator[tuple[Path | None, Path | None]]:
    """The folders to write to and to go on from, as absolute paths, once: reading items may move the process elsewhere.

    Inside, no other process writes a run into the first.

    Args:
        out: As `fit` takes it.
        resume: The same.
        overwrite: A run in `out` may be replaced.

    Raises:
        DataError: If `out` holds a run that would be replaced, or another process trains there.
    """
    folder, again = _absolute("out", out), _absolute("resume", resume)
    with ExitStack() as stack:
        if not is_first_rank():
            yield folder, again
            return
        if folder is not None:
            stack.enter_context(_made(folder))
            if not stack.enter_context(held(folder, wait_s=_WAIT_S, is_folder=True)):
                raise DataError(
                    what="Another process trains in this folder.", where="fit(out=...)", received=str(folder),
                    do="wait until that run has ended, or pass another folder: out='run-2'. Runs may share a cache: "
                    "cache='features/'.",
                )  # fmt: skip
            settle(folder)
        # a run that is resumed elsewhere is only read: the process that trains there keeps its folder in order
        if (
            again is not None
            and again != folder
            and again.is_dir()
            and stack.enter_context(held(again, wait_s=0, is_folder=True))
        ):
            settle(again)
        _check(folder, again, overwrite=overwrite)
        yield folder, again


def _check(folder: Path | None, again: Path | None, *, overwrite: bool) -> None:
    if folder is not None and has_checkpoint(folder) and folder != again and not overwrite:
        raise DataError(
            what="This folder holds a run already, which is not replaced.", where="fit(out=...)", received=str(folder),
            do="go on with that run (resume=out, or --resume), pass another folder, or replace it (overwrite=True, or "
            "--overwrite): its cached features stay.",
        )  # fmt: skip
    if overwrite and again is not None:
        raise DataError(
            what="A run is either resumed or overwritten.", where="fit(resume=..., overwrite=True)",
            received=str(again), do="leave one of the two out (--resume or --overwrite on the command line).",
        )  # fmt: skip


def _absolute(name: str, value: Any) -> Path | None:
    if value is None:
        return None
    path = as_path("fit", name, value)
    with disk_errors("find", path):  # the current folder may be gone
        return path.absolute()


@contextmanager
def _made(folder: Path) -> Generator[None]:
    """The folder is there; one that was made here and has stayed empty goes again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # something is in it
            for path in missing:
                io.call(os.rmdir, path)
