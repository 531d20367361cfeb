"""Lightning Fabric, as a guest: it is imported late, and leaves the process as it was."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.core.errors import CacheError
from frostline.core.io import disk_errors, write_atomic

if TYPE_CHECKING:
    from collections.abc import Generator


def make_fabric(precision: str, devices: int, out: Path | None) -> Any:
    """A Fabric on the best device of this machine, logging to `out/logs` as CSV.

    Its import takes seconds, sets environment variables, warning filters and a log handler: all are put back.
    """
    environment = dict(os.environ)
    log = logging.getLogger("lightning_fabric")
    handlers, level = list(log.handlers), log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightning_fabric import Fabric
        from lightning_fabric.loggers.csv_logs import CSVLogger

        loggers = [CSVLogger(out, name="logs")] if out is not None else []
        log.setLevel(logging.ERROR)
        fabric = Fabric(accelerator="auto", devices=devices, precision=precision, loggers=loggers)  # type: ignore[arg-type]
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    log.handlers[:] = handlers
    log.setLevel(level)
    return fabric


def log_figures(fabric: Any, figures: dict[str, float], step: int) -> None:
    """Tell the loggers, if there are any, figures of a step, counted from the beginning of the run; written at once.

    Raises:
        CacheError: If the disk is full or fails; what was logged before is kept.
    """
    for logger in fabric.loggers:
        folder = Path(logger.log_dir)
        with disk_errors("write the logs in", folder), _kept(folder / "metrics.csv", logger, figures):
            logger.log_metrics(figures, step=step)
            logger.save()


@contextmanager
def _kept(path: Path, logger: Any, figures: dict[str, float]) -> Generator[None]:
    """A figure with a new name makes the logger write its file anew: what stood there is put back if that fails."""
    is_anew = path.exists() and not set(figures).issubset(logger.experiment.metrics_keys)
    content = path.read_bytes() if is_anew else None
    try:
        yield
    except OSError:
        if content is not None:
            with suppress(CacheError):
                write_atomic(path, [content])
        raise
