"""Lightning Fabric, as a guest: it is imported late, and leaves the process as it was."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


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
    """Tell the loggers, if there are any, figures of a step, counted from the beginning of the run; written at once."""
    fabric.log_dict(figures, step=step)
    for logger in fabric.loggers:
        logger.save()
