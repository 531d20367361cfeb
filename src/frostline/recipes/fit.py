"""Train the part above the frost line: split, fill the cache, train the head, watched and proven.

Read top to bottom; copy it where your loop differs.
"""

from __future__ import annotations

import operator
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frostline.caching import CachedDataset, FeatureCache, Views
from frostline.core.arguments import as_path, as_seed, check_callable, check_flag, check_model
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.io import disk_errors
from frostline.core.layers import check_initialized, default_dtype_of, unwrapped
from frostline.core.records import FitResult
from frostline.core.restore import (
    kept_generators,
    kept_gradients,
    plain_ambient,
    plain_calls,
    seed_generators,
)
from frostline.core.steps import check_dense
from frostline.data import class_names, labels_of, with_classes_of
from frostline.data.counts import sample_counts
from frostline.recipes.chosen_line import CHOSEN, chosen_line
from frostline.recipes.course import RunCourse
from frostline.recipes.healing import Healed, heal_first
from frostline.recipes.monitoring import Watching, tell
from frostline.recipes.phases import MovingLine
from frostline.recipes.prepare import TrainingSetup, frozen_epoch_at_most_s, prepare
from frostline.recipes.schedules import as_schedule
from frostline.recipes.solved_head import start_solved, start_text
from frostline.recipes.viewed_data import viewed_data, without_views
from frostline.training import (
    Progress,
    Settings,
    Watch,
    begin_training,
    check_closure,
    check_metric_targets,
    check_settings,
    check_targets,
    describe_callable,
    describe_data,
    describe_frozen,
    describe_line,
    describe_model,
    describe_optimizer,
    has_checkpoint,
    ignored_label,
    import_fabric,
    is_cross_entropy,
    is_stateless,
    make_fabric,
    make_loss,
    make_metrics,
    make_optimizer,
    make_scheduler,
    num_counted,
    run_training,
    settle,
)
from frostline.transfer import check_places, check_promise, kept_freeze
from frostline.transfer import freeze as freeze_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from torch import nn
    from torch.optim import Optimizer

    from frostline.recipes.schedules import FreezeSchedule, ThawSchedule

_TWO_LINES = (
    "fit(monitor='heal') is deprecated and will be removed in the next version. Write the two lines instead:\n"
    "    frostline.heal(model, batches, loss_fn, optimizer)\n"
    "    frostline.fit(model, train, optimizer=optimizer)"
)
_DTYPES = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


@public("fit")
def fit(
    model: nn.Module, train: Any, val: Any = None, *, loss: str | Callable[..., Any] = "cross_entropy",
    epochs: int = 10, batch_size: int = 64, lr: float = 1e-3,
    optimizer: str | Optimizer | Callable[..., Any] = "adamw",
    scheduler: str | Callable[..., Any] | None = None, clip: Callable[..., Any] | None = None,
    freeze: str | Mapping[int, str] | FreezeSchedule | None = None,
    cache: bool | str | Path | FeatureCache = True, seed: int = 0,
    precision: str = "32-true", devices: int = 1, resume: str | Path | None = None,
    out: str | Path | None = None, progress: bool = True, patience: int | None = None,
    metric: str | Callable[..., Any] | Sequence[str] | Mapping[str, Any] | None = None, monitor: bool | str = True,
    example: Any = None, num_workers: int = 0, overwrite: bool = False,
    thaw: Mapping[int, str | None] | Sequence[str | None] | str | ThawSchedule | None = None,
    init_head: str | None = None, views: int | None = None, collate_fn: Callable[..., Any] | None = None,
) -> FitResult:  # fmt: skip
    """Train a model, its frozen part run once per sample instead of once per epoch, with the same result.

    The caller's own model is the trained one afterwards: nothing is wrapped, modes and generators are as before. It
    is left on the device it trained on: a GPU if there is one.

    Args:
        model: Any module; what is frozen (`frostline.freeze`, or `freeze=`) is cached.
        train: A map-style dataset of `(inputs, target)`, or mappings with a label; or a `CachedDataset`, with
            `split.head` as the model.
        val: Validation data; with it the best weights are put back, without it the last stay.
        loss: `cross_entropy`, `mse`, `bce` (with logits), or callable(output, target) -> scalar, which gets
            the model's whole output.
        epochs: Passes over the training data.
        batch_size: Samples per step, and per pass of the frozen part.
        lr: Learning rate of an optimizer that is given by name.
        optimizer: `adamw`, `adam`, `sgd`, `rmsprop`, callable(parameters), or an optimizer over the model's parameters,
            such as one that `frostline.heal` has changed.
        scheduler: `cosine`, `linear`, `step`, or callable(optimizer); stepped once per epoch.
        clip: callable(parameters), for example `frostline.remedies.clip_by_norm(1.0)`.
        freeze: Freeze through this layer first; `"auto"` takes the line that `frostline.choose_depth` finds best for
            `train`, and prints it. Or a schedule that freezes more while the model trains: `"converged"`,
            `{epoch: layer}`, or a `frostline.FreezeSchedule`.
        cache: True keeps features in `out/cache`, or in the user's cache home; or a folder or `FeatureCache`. False
            is the uncached loop on the same code, with the same batches.
        seed: Of the order of samples and of the noise in the trainable part.
        precision: As Lightning Fabric names it.
        devices: 1; more are not built yet.
        resume: Folder of a run to go on with, to the bit on CPU.
        out: Folder for checkpoints, `logs/` (CSV), `health.jsonl`, the cache and, with `val` and cross entropy,
            `confusion.csv` of the best epoch. One that holds a run is refused, unless it is resumed or overwritten.
        progress: One line per epoch and a bar, on standard error.
        patience: Stop after so many epochs without a better validation.
        metric: `accuracy`, `f1` (mean over classes), `top5` (or another number), `auroc` (each class against all
            others, then the mean), `r2`, or callable(output, target) -> number, computed once over the whole validation
            set, higher is better; or a list of names, or a mapping, whose first chooses the best epoch. Accuracy for
            cross entropy.
        monitor: Watch gradients and layers at every tenth step, within 3% of the time: findings come with the result
            and are printed to standard error; records go to `out/health.jsonl`, gradients by layer to the logs. Nothing
            of the training changes. `"heal"` is deprecated: call `frostline.heal` first, then `fit`.
        example: A batch of inputs to split by, as `frostline.split` takes it, where neither the first batch nor the
            first 32 samples show what later ones do (padding, another branch). None takes these.
        num_workers: Processes that read and decode samples, for the frozen pass and for uncached epochs.
        overwrite: Replace the run that `out` holds; its cached features stay.
        thaw: A schedule that thaws layers while the model trains: `{epoch: layer}`, a list of layers from the top,
            `"plateau"`, or a `frostline.ThawSchedule`. The cache follows, and a run without one has the same losses.
        init_head: `probe` solves the output layer on the features as they are (L-BFGS, or ridge regression for `mse`),
            and training starts from there; a resumed run goes on from its checkpoint. None starts from the weights that
            the model has.
        views: Of training data with random augmentation, store so many views of each sample, each drawn with seeds of
            its own that no `seed` changes. Every epoch trains on the next view, and begins again with the first after
            the last one. An uncached run (`cache=False`) has the same views and losses. None takes the data for
            deterministic.
        collate_fn: Makes a batch of a list of items that differ in length, as that of a `DataLoader`; for cached
            training it may only pad. None stacks items of one size.

    Returns:
        History, phases, timings (with an estimate of the uncached run), cache figures, findings, the healing.

    Raises:
        DataError: If an argument, an item or a label cannot be used, or the loss is not finite.
        SplitError: If the model cannot be split exactly.
        NotCacheable: If its frozen part must not be cached; `cache=False` trains it all the same.
    """
    check_model("fit", model, needs=())
    check_settings(epochs=epochs, batch_size=batch_size, lr=lr, patience=patience, precision=precision, devices=devices,
                   has_val=val is not None, has_clip=clip is not None, monitor=monitor, num_workers=num_workers,
                   init_head=init_head, optimizer=optimizer, scheduler=scheduler)  # fmt: skip
    if monitor == "heal":
        warnings.warn(_TWO_LINES, DeprecationWarning, stacklevel=3)  # the caller of the public door
    epochs, batch_size, num_workers = (operator.index(given) for given in (epochs, batch_size, num_workers))
    seed, progress = as_seed("fit", "seed", seed), check_flag("fit", "progress", progress)
    folder, again = _folders(out, resume, overwrite=check_flag("fit", "overwrite", overwrite))
    cache = cache if isinstance(cache, (bool, FeatureCache)) else FeatureCache(as_path("fit", "cache", cache))
    _check_clip(clip)
    model = _inside(model, is_told=progress)
    chosen_loss, metrics = make_loss(loss), make_metrics(metric, loss)
    shown = viewed_data(train, views, epochs, collate_fn)
    val = _checked_val(train, val, loss, metrics, has_collate=collate_fn is not None)
    _tell_data(shown, val, again, is_told=progress)
    import_fabric()
    started = time.perf_counter()
    (given_line, moves), fabric = as_schedule(freeze, thaw, train, monitor), make_fabric(precision, devices, folder)
    setup = TrainingSetup(model, shown, val, cache, fabric, folder, batch_size, seed, progress, example, loss, metrics,
                          num_workers, collate_fn=collate_fn)  # fmt: skip
    model.to(fabric.device)
    through, moves = chosen_line(given_line, moves, setup, again, epochs)
    with _frozen(model, through, is_moving=moves is not None):
        line = MovingLine(model, moves, epochs=epochs, has_val=val is not None, inputs=setup.few_inputs)
        model.to(fabric.device, _DTYPES.get(precision))
        watching = Watching(model, fabric, folder, chosen_loss, asks_loss=is_stateless(loss)) if monitor else None
        with plain_ambient(default_dtype_of(model)), kept_generators(), line.settled(), kept_gradients(model):
            seed_generators(seed)
            healed = _healed(setup, chosen_loss, optimizer, lr, clip, is_asked=monitor == "heal")
            described = {"lr": lr, "precision": precision, "epochs": epochs, "scheduler": describe_callable(scheduler),
                         **describe_optimizer(optimizer, healed.optimizer), **start_text(init_head, views),
                         **({CHOSEN: through} if given_line == "auto" else {}), **line.described}  # fmt: skip
            settings = _settings(setup, watching.loss if watching else chosen_loss, epochs, clip, patience, again,
                                 described, watching.around if watching else None)  # fmt: skip
            check_closure(healed.optimizer, precision=precision, has_clip=clip is not None, has_out=folder is not None)
            schedule = make_scheduler(scheduler, line.joined(healed.optimizer), epochs)
            seed_generators(seed)
            done = begin_training(model, healed.optimizer, schedule, settings)
            course = RunCourse(line, seed, watching, is_verbose=progress, fills=cache is not False)
            for phase in line.phases(done):
                with course.of(phase, done, partial(prepare, setup), partial(frozen_epoch_at_most_s, setup)) as ready:
                    start_solved(init_head, ready, setup, run=done)
                    own = replace(settings, before_epoch=ready.check, **line.settings(done, len(ready.train)))
                    run_training(fabric, model, ready.module, healed.optimizer, schedule, ready.train, ready.val, own,
                                 done)  # fmt: skip
    return _result(done, course, healed, folder, started, is_told=progress)


def _result(
    done: Progress, course: RunCourse, healed: Healed, folder: Path | None, started: float, *, is_told: bool
) -> FitResult:
    """What the run has come to; its findings are printed."""
    if (diagnosis := course.diagnosis) is not None and is_told:
        tell(diagnosis)
    return FitResult(tuple(done.history), done.best_epoch, done.stopped_early,
                     course.timings(started, healed.elapsed_s), course.figures, folder,
                     diagnosis.findings if diagnosis else (), healed.healing, healed.steps, course.phases)  # fmt: skip


def _check_clip(clip: Any) -> None:
    if clip is not None:
        check_callable("fit", "clip", clip, takes="(parameters), such as frostline.remedies.clip_by_norm(1.0)")


def _tell_data(train: Any, val: Any, again: Path | None, *, is_told: bool) -> None:
    """What is trained on, on standard error."""
    if not is_told:
        return
    if again is not None and not has_checkpoint(again):
        sys.stderr.write(f"There is no run to resume in {again}: this one starts anew.\n")
    views = f"; {train.count} views of each training sample" if isinstance(train, Views) else ""
    sys.stderr.write(f"data: {sample_counts(without_views(train), val)}{views}\n")


def _healed(
    setup: TrainingSetup, loss: Callable[..., Any], optimizer: Any, lr: float, clip: Any, *, is_asked: bool
) -> Healed:
    """The optimizer, after the model was healed if the caller wants it."""
    new_optimizer = partial(_new_optimizer, optimizer, setup.model, lr)
    if not is_asked:
        return Healed(new_optimizer())
    return heal_first(setup.model, setup.train, loss, new_optimizer, clip, batch_size=setup.batch_size,
                      seed=setup.seed, progress=setup.progress)  # fmt: skip


def _new_optimizer(optimizer: Any, model: nn.Module, lr: float) -> Optimizer:
    return make_optimizer(optimizer, model.parameters(), lr)


def _settings(
    setup: TrainingSetup, loss: Callable[..., Any], epochs: int, clip: Any, patience: int | None, again: Path | None,
    described: dict[str, Any], watch: Watch | None,
) -> Settings:  # fmt: skip
    """The settings of the training loop; `described` gets what a resumed run must have as well."""
    model, train, folder = setup.model, without_views(setup.train), setup.out
    described |= {"batch_size": setup.batch_size, "seed": setup.seed, "loss": describe_callable(setup.loss),
                  "metrics": list(setup.metrics), "frozen parameters": describe_line(model),
                  "model": describe_model(model), "classes": class_names(train), **describe_data(train, setup.val),
                  "frozen layers": describe_frozen(model) if folder or again else ""}  # fmt: skip
    return Settings(loss, setup.metrics, epochs, clip, patience, folder, again, described, setup.progress, watch,
                    partial(num_counted, setup.loss), ignored_label(setup.loss), is_cross_entropy(setup.loss),
                    class_names(train))  # fmt: skip


def _folders(out: Any, resume: Any, *, overwrite: bool) -> tuple[Path | None, Path | None]:
    """The two folders as absolute paths, once: reading items may move the process to another one.

    Raises:
        DataError: If `out` holds a run that would be replaced.
    """
    folder, again = _absolute("out", out), _absolute("resume", resume)
    for path in (folder, again):
        if path is not None:
            settle(path)
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
    return folder, again


def _absolute(name: str, value: Any) -> Path | None:
    if value is None:
        return None
    path = as_path("fit", name, value)
    with disk_errors("find", path):  # the current folder may be gone
        return path.absolute()


@contextmanager
def _frozen(model: nn.Module, through: str | None, *, is_moving: bool) -> Generator[None]:
    """Inside, the model is frozen as this call asks, and runs as written; an error takes this freeze back."""
    with plain_calls(model), kept_freeze(model) if through is not None or is_moving else nullcontext():
        if through is not None:
            freeze_layers(model, through)
        check_promise(model, "fit(model)")
        check_places(model, "fit(model)")
        yield


def _checked_val(train: Any, val: Any, loss: Any, metrics: Mapping[str, Any], *, has_collate: bool) -> Any:
    """The validation data, its classes numbered as those of the training data; the targets of both can be used."""
    val = with_classes_of(train, val)
    for data, where in ((train, "fit(train)"), (val, "fit(val=...)")):
        if (
            data is not None and not has_collate and not isinstance(data, CachedDataset)
        ):  # its samples are filled already
            check_targets(data, loss, where)
    if val is not None and not isinstance(val, CachedDataset):
        check_metric_targets(metrics, val, labels_of(val))
    return val


def _inside(model: nn.Module, *, is_told: bool) -> nn.Module:
    """The model that is trained: what wrappers hold, with weights that can be."""
    model, wrappers = unwrapped(model)
    if wrappers and is_told:
        sys.stderr.write(
            f"The module inside of {', '.join(wrappers)} is trained: a cached head is no compiled model.\n"
        )
    check_initialized(model, "fit(model)")
    check_model("fit", model)
    check_dense(model)
    return model
