"""The files of a run in its folder, and those of an earlier run, which are kept until the new run has a checkpoint.

While a run is replaced, the earlier one lies in `replaced/`. A process may be killed at any moment, so that the state
of the folder is always one of these, and `settle` tells which:

* `replaced.part/`: files are being moved, and the new run has written nothing: they are moved back;
* `replaced/` without a checkpoint beside it: the new run has no checkpoint yet: the earlier one is put back;
* `replaced/` with a checkpoint beside it: the earlier run is deleted.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.core.io import call, disk_errors, make_folder, remove

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

INDEX = "checkpoint.json"
_RUN = (INDEX, "state-*.safetensors", "confusion.csv", "health.jsonl", "health-[0-9]*.jsonl", "logs", "tensorboard",
        "model.json", "model.safetensors")  # fmt: skip
_ASIDE, _MOVING = "replaced", "replaced.part"


def has_checkpoint(folder: Path) -> bool:
    """True if a run in this folder has finished an epoch."""
    return (folder / INDEX).is_file()


def settle(folder: Path) -> None:
    """Finish or take back a replacement that was broken off, so that the folder holds one run, or none.

    Raises:
        CacheError: If the disk fails; the earlier run is kept.
    """
    with disk_errors("put back the earlier run in", folder):
        if (folder / _ASIDE).is_dir():
            if has_checkpoint(folder):
                shutil.rmtree(folder / _ASIDE)
                return
            _delete(folder)  # of the run that has no checkpoint
            call(os.rename, folder / _ASIDE, folder / _MOVING)
        if (folder / _MOVING).is_dir():
            for path in _files(folder / _MOVING):
                call(os.rename, path, folder / path.name)
            call(os.rmdir, folder / _MOVING)


@contextmanager
def replacing(folder: Path | None) -> Generator[None]:
    """Inside, a new run trains in the folder. If it ends without a checkpoint, the earlier run is put back.

    An earlier run without a checkpoint is deleted: it cannot be resumed. Cached features and other files stay.

    Args:
        folder: Of the new run; None: it writes no files.
    """
    if folder is None:
        yield
        return
    settle(folder)
    if not has_checkpoint(folder):
        with disk_errors("delete the files of a run without a checkpoint in", folder):
            _delete(folder)
        yield
        return
    make_folder(folder / _MOVING)
    with disk_errors("move the earlier run in", folder):
        for path in _files(folder):
            call(os.rename, path, folder / _MOVING / path.name)
        call(os.rename, folder / _MOVING, folder / _ASIDE)
    try:
        yield
    finally:
        settle(folder)


def _files(folder: Path) -> Iterator[Path]:
    return (path for pattern in _RUN for path in sorted(folder.glob(pattern)))


def _delete(folder: Path) -> None:
    for path in _files(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            remove(path)
