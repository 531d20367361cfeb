"""The training loop: one for cached features and for plain inputs."""

from __future__ import annotations

import math
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.records import Epoch
from frostline.training.checkpoints import (
    Progress,
    load_checkpoint,
    put_back,
    save_checkpoint,
    trained_state,
)
from frostline.training.confusion import Confusion, write_confusion
from frostline.training.fabric import log_figures
from frostline.training.losses import check_validation_loss
from frostline.training.metrics import make_collector
from frostline.training.optimizers import step_scheduler
from frostline.training.outputs import loss_of
from frostline.training.run_files import has_checkpoint, replacing
from frostline.training.stepper import Stepper, called
from frostline.training.weight_average import WeightAverage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

    from frostline.training.settings import Batches, Observer, Settings


def begin_training(fabric: Any, model: nn.Module, optimizer: Optimizer, scheduler: Any, settings: Settings) -> Progress:
    """A run before its first epoch, or as its checkpoint has it; then model, optimizer and generators are as there."""
    if settings.resume is not None and has_checkpoint(settings.resume):
        return load_checkpoint(settings.resume, model, optimizer, scheduler, settings.described,
                               _stateful(fabric, settings))  # fmt: skip
    return Progress([], 0, None, {})


def _stateful(fabric: Any, settings: Settings) -> dict[str, Any]:
    """What else a checkpoint holds the state of: a clip, the scaler of float16, callbacks."""
    return {"clip": settings.clip, "precision": fabric.strategy.precision, **settings.callbacks.stateful}


def run_training(
    fabric: Any, model: nn.Module, module: nn.Module, optimizer: Optimizer, scheduler: Any, train_batches: Batches,
    val_batches: Batches | None, settings: Settings, progress: Progress | None = None,
) -> Progress:  # fmt: skip
    """Train `module`, which shares its parameters with `model`, and leave the best weights in the model.

    Of a run in phases this is one phase: with other modules and batches, it is called again with its progress, and who
    calls it puts the best weights back.

    Args:
        fabric: Lightning Fabric: device, precision, logging.
        model: The user's model; its trainable parameters and buffers are what checkpoints hold.
        module: What is called on a batch: the head, or the model itself.
        optimizer: Over the module's trainable parameters.
        scheduler: Stepped as the settings ask, or None.
        train_batches: Training data.
        val_batches: Validation data, or None: then the last weights stay.
        settings: The rest.
        progress: How far the run has come; None begins it.
    """
    wrapped, wrapped_optimizer = fabric.setup(module, optimizer)
    settings = _with_names(settings, model)
    steps = settings.steps.per_epoch(len(train_batches))
    is_whole = progress is None
    if progress is None:
        progress = begin_training(fabric, model, optimizer, scheduler, settings)
    replaced = settings.out if progress.folder != settings.out else None  # holds another run, if any
    average = WeightAverage(model, settings.steps.ema, progress.average) if settings.steps.ema is not None else None
    with (
        replacing(replaced),
        _watched(module, optimizer, len(progress.history) * steps, progress, settings) as observer,
        Stepper(
            fabric, wrapped, optimizer, wrapped_optimizer, scheduler, steps, settings, average, observer
        ) as stepper,
    ):
        settings.callbacks.begin(model, module, optimizer, fabric, progress, steps)
        while not _ends(progress, settings):
            epoch = len(progress.history) + 1
            settings.callbacks.call("on_train_epoch_start", epoch=epoch)
            if settings.before_epoch is not None:
                settings.before_epoch()
            started, lr = time.perf_counter(), stepper.lr(epoch)
            train_batches.epoch = epoch - 1
            train_loss = stepper.epoch(train_batches, epoch)
            confusion = Confusion(settings.ignored) if settings.confused and settings.out is not None else None
            with average.in_place() if average is not None else nullcontext():
                val_loss, scores = _judged(fabric, wrapped, val_batches, settings, confusion)
                if settings.steps.is_per_epoch:
                    step_scheduler(scheduler, train_loss, val_loss)
                elapsed_s = time.perf_counter() - started
                progress.history.append(
                    Epoch(epoch, train_loss, val_loss, next(iter(scores.values()), None), lr, elapsed_s, scores or None)
                )
                _note_best(model, progress, settings)
            if settings.after_epoch is not None:
                settings.after_epoch(progress)
            settings.callbacks.call("on_train_epoch_end", history=tuple(progress.history))
            settings.ranks.check_same(model, epoch)
            progress.stopped_early = settings.ranks.told(progress.stopped_early or settings.callbacks.is_stopped)
            _tell(fabric, progress.history[-1], len(progress.history) * steps, settings)
            if settings.out is not None:
                if confusion is not None and confusion.matrix is not None and progress.best_epoch == epoch:
                    write_confusion(settings.out / "confusion.csv", confusion.matrix, settings.classes)
                save_checkpoint(settings.out, model, optimizer, scheduler, progress, settings.described,
                                _stateful(fabric, settings), settings.trains)  # fmt: skip
    if val_batches is not None and not progress.best and _is_done(progress, settings):
        raise _no_best(progress.history, settings.out)
    if is_whole:
        put_back(model, progress.final)
    return progress


def _no_best(history: Sequence[Epoch], out: Path | None) -> DataError:
    figures = sorted({f"{name} {value}" for epoch in history for name, value in not_finite(epoch).items()})
    return DataError(
        what="No epoch can be chosen as the best: no validation score is finite.", where="fit(val=...)",
        received=f"{', '.join(figures[:4])} in {len(history)} of {len(history)} epochs",
        do="look for what makes them: a log of 0 or a division by 0 in the loss or metric, outputs in evaluation mode "
        "(running statistics of BatchNorm), float16; or train without validation data. The model has the weights of "
        f"the last epoch{f', and so has the checkpoint in {out}' if out is not None else ''}.",
    )  # fmt: skip


# A lower learning rate is advised for a loss that is not finite only after inputs, targets and, at the first step,
# weights were looked through: these are the more frequent causes, and a lower rate hides them.
def not_finite(epoch: Epoch) -> dict[str, float]:
    """The validation figures of an epoch that are NaN or infinite, by name."""
    scores = {f"val_{name}": score for name, score in (epoch.val_metrics or {}).items()}
    figures = {"val_loss": epoch.val_loss, **scores}
    return {name: value for name, value in figures.items() if value is not None and not math.isfinite(value)}


def _watched(
    module: nn.Module, optimizer: Optimizer, steps: int, progress: Progress, settings: Settings
) -> AbstractContextManager[Observer | None]:
    if settings.watch is None or _ends(progress, settings):
        return nullcontext()
    return settings.watch(module, optimizer, steps)


def _is_done(progress: Progress, settings: Settings) -> bool:
    """True if no epoch of the run is left."""
    return len(progress.history) >= settings.epochs or progress.stopped_early


def _ends(progress: Progress, settings: Settings) -> bool:
    """True if no epoch of the phase is left."""
    return _is_done(progress, settings) or (settings.is_over is not None and settings.is_over(progress))


def _judged(
    fabric: Any, wrapped: Any, data: Batches | None, settings: Settings, confusion: Confusion | None
) -> tuple[float | None, dict[str, float]]:  # fmt: skip
    """The loss and the scores of all validation data, which the first process computes."""
    if data is None:
        return None, {}
    ranks = settings.ranks
    return ranks.told(_validate(fabric, wrapped, data, settings, confusion) if ranks.is_first else (None, {}))


def _validate(
    fabric: Any, wrapped: Any, data: Batches, settings: Settings, confusion: Confusion | None
) -> tuple[float, dict[str, float]]:  # fmt: skip
    wrapped.eval()
    collectors = {name: make_collector(metric, settings.ignored) for name, metric in settings.metrics.items()}
    taking = [*collectors.values(), *([confusion] if confusion is not None else [])]
    total_loss, count, first = 0.0, 0, 0
    with torch.no_grad():
        for at, (inputs, target) in enumerate(data):
            size, start = settings.size_of(target, data, at), first
            first += batches.batch_size(inputs)
            if size == 0:
                continue
            inputs, target = batches.move(inputs, fabric.device), batches.move(target, fabric.device)
            output = called(wrapped, inputs)
            loss = float(loss_of(settings.loss, output, target))
            check_validation_loss(loss, inputs, target, start)
            total_loss += loss * size
            count += size
            for collector in taking:
                collector.add(output, target)
        if not count:
            raise DataError(
                what="No sample of the validation data has a label.", where="fit(val=...)",
                received=f"{len(data)} batches of ignored labels only",
                do="check the labels: -100 stands for 'no label here'.",
            )  # fmt: skip
        return total_loss / count, {name: collector.result() for name, collector in collectors.items()}


def _with_names(settings: Settings, model: nn.Module) -> Settings:
    """With the weights that train now by name: forward may turn some of them off, and the best are of all of them."""
    if settings.trains is not None:
        return settings
    return replace(settings, trains=frozenset(name for name, own in model.named_parameters() if own.requires_grad))


def _note_best(model: nn.Module, progress: Progress, settings: Settings) -> None:
    """Higher metric, or lower loss without one, is better; a tie keeps the earlier epoch.

    An epoch whose validation loss or first metric is not finite is never the best: a metric of outputs that are NaN may
    be a number (their largest is the first NaN) without a meaning.
    """
    last = progress.history[-1]
    if last.val_loss is None:
        progress.best_epoch = last.epoch
        return
    score = last.val_metric if last.val_metric is not None else -last.val_loss
    best = progress.best_score if progress.best else None
    if _is_candidate(last) and (best is None or score > best or not math.isfinite(best)):
        progress.best_score, progress.best_epoch = score, last.epoch
        progress.best = {name: tensor.clone() for name, tensor in trained_state(model, settings.trains).items()}
    elif settings.patience is not None and not settings.has_next:
        since = max(progress.best_epoch, settings.first_epoch - 1)
        progress.stopped_early = last.epoch - since >= settings.patience


def _is_candidate(epoch: Epoch) -> bool:
    return all(figure is None or math.isfinite(figure) for figure in (epoch.val_loss, epoch.val_metric))


def _tell(fabric: Any, epoch: Epoch, steps: int, settings: Settings) -> None:
    scores = {f"val_{name}": score for name, score in (epoch.val_metrics or {}).items()}
    figures = {"train_loss": epoch.train_loss, "val_loss": epoch.val_loss, **scores}
    known = {name: value for name, value in figures.items() if value is not None}
    log_figures(fabric, {"epoch": epoch.epoch, **known, "lr": epoch.lr, "elapsed_s": epoch.elapsed_s}, steps)
    if settings.progress:
        text = "  ".join(f"{name} {value:.4f}" for name, value in known.items())
        sys.stderr.write(f"epoch {epoch.epoch}/{settings.epochs}  {text}  {epoch.elapsed_s:.2f} s\n")
        if odd := not_finite(epoch):
            verdict = "" if _is_candidate(epoch) else ": this epoch is not chosen as the best"
            sys.stderr.write(f"        {' and '.join(odd)} {'are' if len(odd) > 1 else 'is'} not finite{verdict}.\n")
