"""Lightning Fabric, as a guest: it is imported late, and leaves the process as it was."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from frostline.core.errors import CacheError, DataError
from frostline.core.io import disk_errors
from frostline.core.new_files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch.optim import Optimizer

_NAME = "lightning_fabric"
TENSORBOARD = "tensorboard"  # a logger by this name, and its folder in that of the run


def import_fabric() -> None:
    """Import Lightning Fabric, with what it imports: 3 s in a process that has not, which are no time of a run."""
    with _as_guest():
        importlib.import_module("lightning_fabric.loggers.csv_logs")


def as_loggers(given: Any) -> list[Any]:
    """The loggers that `fit` was given: none, one or several, or the name of one that writes into the run's folder.

    Raises:
        DataError: If one is no logger.
    """
    found = list(cast("list[Any]", given)) if isinstance(given, (list, tuple)) else [] if given is None else [given]
    for one in found:
        is_named = isinstance(one, str) and one == TENSORBOARD
        if not is_named and (isinstance(one, type) or not callable(getattr(one, "log_metrics", None))):
            raise DataError(
                what="This is no logger that fit can use.", where="fit(logger=...)",
                received=repr(one) if isinstance(one, (str, bool)) else
                f"the class {one.__name__}" if isinstance(one, type) else f"a {type(one).__name__}",
                do="pass a logger of Lightning (lightning.fabric.loggers.TensorBoardLogger('runs'), "
                "lightning.pytorch.loggers.WandbLogger()), an object with log_metrics(figures, step), or "
                "logger='tensorboard'. CSV logs are in out/logs in any case.",
            )  # fmt: skip
    return found


def make_fabric(precision: str, devices: int, out: Path | None, loggers: Sequence[Any] = ()) -> Any:
    """A Fabric on the best device of this machine, logging to `out/logs` as CSV, and to these loggers.

    With several devices, this process joins the others; the first of them logs.

    Raises:
        DataError: If a logger by name has no folder to write to, its package is not installed, or there are fewer
            devices.
    """
    with _as_guest():
        from lightning_fabric import Fabric
        from lightning_fabric.loggers.csv_logs import CSVLogger
        from lightning_fabric.plugins import MixedPrecision
        from lightning_fabric.strategies.ddp import DDPStrategy
        from lightning_fabric.utilities.exceptions import MisconfigurationException

        made: list[Any] = [CSVLogger(out, name="logs")] if out is not None else []
        made += [_tensorboard(out) if isinstance(one, str) else one for one in loggers]
        logging.getLogger(_NAME).setLevel(logging.ERROR)
        options: dict[str, Any] = {"accelerator": "auto", "precision": precision, "devices": devices}
        if precision == "16-mixed" and not torch.accelerator.is_available():
            # by name, Fabric takes bfloat16 on a CPU, although torch has autocast and a scaler for float16 there
            mixed = MixedPrecision("16-mixed", device="cpu")
            options |= {"accelerator": "cpu", "precision": None, "plugins": mixed}
        if devices == 1:
            return Fabric(**options, loggers=made)

        class Strategy(DDPStrategy):
            def setup_module(self, module: Any) -> Any:
                # a walk through each step's graph, and a warning of torch, where nothing can be without a gradient
                self._ddp_kwargs["find_unused_parameters"] = not getattr(module, "uses_all", False)
                return super().setup_module(module)

        strategy = Strategy(**_without_buffers())
        try:
            fabric = Fabric(**options, strategy=strategy, loggers=made if is_first_rank() else [])
            fabric.launch()
        except (MisconfigurationException, ValueError) as error:
            raise DataError(
                what="So many devices cannot train together here.", where=f"fit(devices={devices})",
                received=str(error).strip().splitlines()[0],
                do="lower devices=; start a script with torchrun; or hide the GPUs, to train in "
                "processes on the CPU: CUDA_VISIBLE_DEVICES=''.",
            ) from error  # fmt: skip
        return fabric


# Buffers of what trains are the same everywhere, since BatchNorms that train are refused.
def _without_buffers() -> dict[str, Any]:
    known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def is_first_rank() -> bool:
    """False in a process that was started beside another one, which writes the files of the run they train together."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def _tensorboard(out: Path | None) -> Any:
    if out is None:
        raise DataError(
            what="A logger by name writes into the folder of the run, and there is none.", where="fit(logger=...)",
            received=f"{TENSORBOARD!r} without out=", do="pass out='run', or a logger with a folder of its own.",
        )  # fmt: skip
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    try:
        return TensorBoardLogger(out, name=TENSORBOARD)
    except ModuleNotFoundError as error:
        raise DataError(
            what="The logger's package is not installed.", where="fit(logger='tensorboard')", received=str(error),
            do="pip install tensorboard.",
        ) from error  # fmt: skip


def unscale(fabric: Any, optimizer: Optimizer) -> None:
    """Divide gradients by the scale of the loss, where there is one, so that a clip sees them as they are.

    Raises:
        DataError: If the optimizer divides them itself, inside of its step.
    """
    try:
        fabric.strategy.precision.unscale_gradients(optimizer)
    except NotImplementedError as error:
        raise DataError(
            what="This optimizer unscales gradients inside of its step, so that they cannot be clipped before.",
            where="fit(optimizer=..., clip=..., precision='16-mixed')", received=type(optimizer).__name__,
            do="make it without fused=True, or use precision='bf16-mixed', whose gradients are not scaled.",
        ) from error  # fmt: skip


def has_scale(fabric: Any) -> bool:
    """True if the loss is scaled: then it is the scaler that leaves out steps, and that lowers the scale by them."""
    return getattr(fabric.strategy.precision, "scaler", None) is not None


@contextmanager
def _as_guest() -> Generator[None]:
    """What Fabric sets while it is imported and made is put back: environment variables, warning filters, handlers."""
    environment, log = dict(os.environ), logging.getLogger(_NAME)
    handlers, level = list(log.handlers), log.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        log.handlers[:] = handlers
        log.setLevel(level)


def log_figures(fabric: Any, figures: dict[str, float], step: int) -> None:
    """Tell the loggers, if there are any, figures of a step, counted from the beginning of the run; written at once.

    Raises:
        CacheError: If the disk is full or fails; what was logged before is kept.
    """
    for logger in fabric.loggers:
        folder = Path(getattr(logger, "log_dir", None) or getattr(logger, "name", None) or type(logger).__name__)
        with disk_errors("write the logs in", folder), _kept(folder / "metrics.csv", logger, figures):
            logger.log_metrics(figures, step=step)
            if callable(save := getattr(logger, "save", None)):
                save()


@contextmanager
def _kept(path: Path, logger: Any, figures: dict[str, float]) -> Generator[None]:
    """A figure with a new name makes the logger write its file anew: what stood there is put back if that fails."""
    is_anew = path.is_file() and not set(figures).issubset(logger.experiment.metrics_keys)
    content = path.read_bytes() if is_anew else None
    try:
        yield
    except OSError:
        if content is not None:
            with suppress(CacheError):
                write_atomic(path, [content])
        raise
