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

from frostline.caching import CachedLoader, FeatureCache, Views
from frostline.core.arguments import as_seed, check_callable, check_flag, check_model
from frostline.core.doors import public
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
from frostline.data import class_names
from frostline.data.counts import sample_counts
from frostline.recipes.cache_options import cache_options
from frostline.recipes.chosen_line import CHOSEN, chosen_line
from frostline.recipes.class_weights import losses_of
from frostline.recipes.course import RunCourse
from frostline.recipes.device_options import check_devices
from frostline.recipes.healing import Healed, heal_first
from frostline.recipes.monitoring import Watching, tell
from frostline.recipes.phases import MovingLine
from frostline.recipes.prepare import frozen_epoch_at_most_s, prepare
from frostline.recipes.run_folder import run_folders
from frostline.recipes.sampled_order import sampled_order
from frostline.recipes.schedules import as_schedule
from frostline.recipes.solved_head import start_solved, start_text
from frostline.recipes.training_setup import TrainingSetup, checked_validation, form_of_run
from frostline.recipes.viewed_data import shown_data, without_views
from frostline.training import (
    Callbacks,
    DatasetBatches,
    Progress,
    Ranks,
    Settings,
    StepOptions,
    Watch,
    as_loggers,
    begin_training,
    check_closure,
    check_parts,
    check_settings,
    describe_callable,
    describe_data,
    describe_frozen,
    describe_line,
    describe_model,
    describe_optimizer,
    has_checkpoint,
    has_scale,
    ignored_label,
    import_fabric,
    in_ranks,
    is_cross_entropy,
    is_first_rank,
    is_stateless,
    make_fabric,
    make_optimizer,
    make_scheduler,
    mass_of,
    num_counted,
    run_training,
    step_options,
    untrained_text,
)
from frostline.transfer import check_places, check_promise, kept_freeze
from frostline.transfer import freeze as freeze_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.recipes.schedules import FreezeSchedule, ThawSchedule

_TWO_LINES = (
    "fit(monitor='heal') is deprecated and will be removed in the next version. Write the two lines instead:\n"
    "    frostline.heal(model, batches, loss_fn, optimizer)\n"
    "    frostline.fit(model, train, optimizer=optimizer)"
)
_DTYPES = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


@public("fit")
@in_ranks
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
    accumulation: int = 1, warmup: float = 0.0, scheduler_interval: str = "epoch",
    ema: float | None = None, label_smoothing: float = 0.0, class_weights: str | Sequence[float] | Tensor | None = None,
    callbacks: Sequence[Any] = (), logger: Any = None,
    storage: str = "exact", by_length: bool = False,
    frozen_pass: str | Sequence[str] | None = None, sampler: Iterable[int] | None = None,
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
        scheduler: `cosine`, `linear`, `step`, or callable(optimizer); stepped once per epoch, or as
            `scheduler_interval` asks.
        clip: callable(parameters), for example `frostline.remedies.clip_by_norm(1.0)`.
        freeze: Freeze through this layer first; `"auto"` takes the line that `frostline.choose_depth` finds best for
            `train`, and prints it. Or a schedule that freezes more while the model trains: `"converged"`,
            `{epoch: layer}`, or a `frostline.FreezeSchedule`.
        cache: True keeps features in `out/cache`, or in the user's cache home; or a folder or `FeatureCache`. False
            is the uncached loop on the same code, with the same batches. `"auto"` measures a few steps, stores what
            costs least (see `Split.plan`), and trains without a cache where that is quicker.
            Exact features have the same losses either way, if they take less than half of the memory (see
            `CachedDataset.loader`); else, and with `storage` or `frozen_pass`, the choice decides them.
        seed: Of the order of samples and of the noise in the trainable part.
        precision: As Lightning Fabric names it.
        devices: Devices that train together, each on its share of every batch, with the result of one device: GPUs if
            there are any, else so many processes on the CPU. The order of samples is the same with any number, noise of
            the trainable part is not. One by one, GPUs are processes that run the calling script again.
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
        init_head: `probe` solves the output layer on features of training mode (L-BFGS, or ridge regression for `mse`),
            and training starts from there; a resumed run goes on from its checkpoint. None starts from the weights that
            the model has.
        views: Of training data with random augmentation, store so many views of each sample, each drawn with seeds of
            its own that no `seed` changes. Every epoch trains on the next view, and begins again with the first after
            the last one. An uncached run (`cache=False`) has the same views and losses. None takes the data for
            deterministic.
        collate_fn: Makes a batch of a list of items that differ in length, as that of a `DataLoader`; for cached
            training it may only pad. None stacks items of one size.
        by_length: Batches of training data hold samples of like length, so that little of them is padding; needs a
            `collate_fn`, or a `CachedDataset` that was filled with one.
        accumulation: Batches of one step: their gradients are added up as those of one batch of all their samples. The
            last step of an epoch takes the batches that are left; BatchNorm sees one batch at a time.
        warmup: Epochs in which the learning rate rises in a straight line to its full size, such as 0.5.
        scheduler_interval: `epoch`, or `step`: the scheduler is stepped after every step that follows the warm-up; one
            by name then ends with the run.
        ema: Keep an exponential moving average of the weights that train (and of running statistics), of which every
            step keeps this share, such as 0.99. Validation, the best weights and the trained model are of the average.
        label_smoothing: Of cross entropy: the share of probability that is spread over all classes, such as 0.1.
        class_weights: Of cross entropy: a number for each class, or `balanced` by the counts of the training labels,
            for which all items are read once where the dataset keeps no labels that are its targets.
        callbacks: Objects with any of `on_train_start`, `on_train_epoch_start`, `on_train_batch_end` (after each step),
            `on_train_epoch_end` and `on_train_end`, called with the run: `run.model`, `.optimizer`, `.epoch`, `.step`,
            `.loss` and `.history`. `run.log({...})` tells the loggers, `run.stop()` ends the run after the epoch.
        logger: Where figures go beside `out/logs`: a logger of Fabric or Lightning, or several; `tensorboard` writes to
            `out/tensorboard`. Losses, metrics and rates of epochs, gradients by layer, and what callbacks log.
        storage: How cached features lie on the disk: `exact`, `float16`, `bfloat16` or `int8` (see
            `FeatureCache.fill`). What rounding changes in the head's loss on the first samples is printed, and is in
            `result.cache`.
        frozen_pass: Ways to compute the frozen part in less time, rounded otherwise, as `FeatureCache.fill` takes them:
            `channels_last`, `fold`, `bf16`, `compile`, or several. None computes it as the model does.
        sampler: Draws the positions of the training samples of each epoch, such as a `WeightedRandomSampler`. Each pass
            is drawn with seeds that follow from `seed` and the epoch, cached or not. None gives each sample once.

    Returns:
        History, phases, timings (with an estimate of the uncached run), cache figures, findings, the healing.

    Raises:
        DataError: If an argument, an item or a label cannot be used, or the loss is not finite.
        SplitError: If the model cannot be split exactly.
        NotCacheable: If its frozen part must not be cached; `cache=False` trains it all the same.
    """
    check_model("fit", model, needs=())
    check_settings(epochs=epochs, batch_size=batch_size, lr=lr, patience=patience, precision=precision, devices=devices,
                   has_val=val is not None, monitor=monitor, num_workers=num_workers, init_head=init_head,
                   optimizer=optimizer, scheduler=scheduler)  # fmt: skip
    steps = step_options(epochs=epochs, accumulation=accumulation, warmup=warmup, ema=ema,
                         scheduler_interval=scheduler_interval)  # fmt: skip
    if monitor == "heal":
        warnings.warn(_TWO_LINES, DeprecationWarning, stacklevel=4)  # the caller of the public door
    epochs, batch_size, num_workers = (operator.index(given) for given in (epochs, batch_size, num_workers))
    seed, progress = as_seed("fit", "seed", seed), check_flag("fit", "progress", progress)
    stored = cache_options(cache, storage, frozen_pass, train)
    _check_options(clip, devices, cache=cache, freeze=freeze, thaw=thaw, monitor=monitor, frozen_pass=frozen_pass)
    with run_folders(out, resume, overwrite=check_flag("fit", "overwrite", overwrite)) as (folder, again):
        progress, monitor = progress and is_first_rank(), monitor if is_first_rank() else False
        model = _inside(model, is_told=progress)
        called, loggers, form = Callbacks(callbacks), as_loggers(logger), form_of_run(model, example)
        read = partial(DatasetBatches, batch_size=batch_size, form=form, collate_fn=collate_fn, num_workers=num_workers)
        loss, chosen_loss, metrics = losses_of(train, loss, metric, class_weights, label_smoothing, read)
        val = checked_validation(train, val, loss, metrics, form, has_collate=collate_fn is not None)
        shown, val, collate_fn = shown_data(train, val, views, epochs, collate_fn, form, by_length=by_length)
        _tell_data(shown, val, again, is_told=progress)
        import_fabric()
        started = time.perf_counter()
        given_line, moves = as_schedule(freeze, thaw, train, monitor)
        fabric = make_fabric(precision, devices, folder, loggers)
        setup = TrainingSetup(model, shown, val, stored.cache, fabric, folder, batch_size, seed, progress, example,
                              loss, metrics, num_workers, collate_fn=collate_fn, by_length=by_length,
                              drawn=sampled_order(sampler, shown, seed), **stored.of_setup)  # fmt: skip
        model.to(fabric.device)
        through, moves = chosen_line(given_line, moves, setup, again, epochs)
        with _frozen(model, through, is_moving=moves is not None):
            line = MovingLine(model, moves, epochs=epochs, has_val=val is not None, inputs=setup.few_inputs)
            line.check_average(ema)
            model.to(fabric.device, _DTYPES.get(precision))
            watching = Watching(model, fabric, folder, chosen_loss, asks_loss=is_stateless(loss)) if monitor else None
            with plain_ambient(default_dtype_of(model)), kept_generators(), line.settled(), kept_gradients(model):
                seed_generators(seed)
                healed = _healed(setup, chosen_loss, optimizer, lr, clip, steps, is_asked=monitor == "heal")
                described = {**_described(lr, precision, epochs, scheduler, optimizer, healed), **steps.described,
                             **start_text(init_head, views, by_length=by_length), **stored.described,
                             **line.described, **({CHOSEN: through} if given_line == "auto" else {})}  # fmt: skip
                settings = _settings(setup, watching.loss if watching else chosen_loss, epochs, clip, patience, again,
                                     described, watching.around if watching else None, steps, called)  # fmt: skip
                schedule = _schedule(scheduler, line.joined(healed.optimizer), setup, steps, epochs)
                seed_generators(seed)
                done = begin_training(fabric, model, healed.optimizer, schedule, settings)
                course = RunCourse(line, seed, watching, is_verbose=progress, fills=stored.cache is not False,
                                   is_exact=stored.is_exact)  # fmt: skip
                _train_phases(line, course, setup, settings, healed.optimizer, schedule, done, init_head)
        return _result(done, course, healed, folder, started, is_told=progress)


def _schedule(scheduler: Any, optimizer: Optimizer, setup: TrainingSetup, steps: StepOptions, epochs: int) -> Any:
    """The schedule of the learning rate over the whole run; a note on an average over too few steps is printed."""
    per_epoch = steps.per_epoch(setup.num_batches)
    if setup.progress and (text := untrained_text(setup.loss, optimizer)):
        sys.stderr.write(f"loss: {text}\n")
    if setup.progress and (note := steps.note(epochs * per_epoch)) is not None:
        sys.stderr.write(f"ema: {note}\n")
    return make_scheduler(scheduler, optimizer, steps.length(epochs, per_epoch), is_per_epoch=steps.is_per_epoch)


def _train_phases(
    line: MovingLine, course: RunCourse, setup: TrainingSetup, settings: Settings, optimizer: Optimizer,
    schedule: Any, done: Progress, init_head: str | None,
) -> None:  # fmt: skip
    """Split, fill and train at each frost line in turn; one, unless a schedule moves it."""
    for phase in line.phases(done):
        with course.of(phase, done, partial(prepare, setup), partial(frozen_epoch_at_most_s, setup)) as ready:
            ranks = settings.ranks
            _agree(ready.train, ranks)
            start_solved(init_head, ready, setup, run=done)
            check_parts(ranks, ready.module, settings.loss, ready.train, settings.mass)
            ready.train.part = (ranks.rank, ranks.count)
            steps = settings.steps.per_epoch(len(ready.train))
            own = replace(settings, before_epoch=ready.check, **line.settings(done, steps))
            run_training(setup.fabric, setup.model, ready.module, optimizer, schedule, ready.train, ready.val, own,
                         done)  # fmt: skip
    settings.callbacks.call("on_train_end")


def _agree(data: Any, ranks: Ranks) -> None:
    """Have cached rows read as all processes can, so that the order of an epoch is one."""
    if ranks.count > 1 and isinstance(data, CachedLoader):
        data.agree(ranks.exchanged)


def _result(
    done: Progress, course: RunCourse, healed: Healed, folder: Path | None, started: float, *, is_told: bool
) -> FitResult:
    """What the run has come to; its findings are printed."""
    if (diagnosis := course.diagnosis) is not None and is_told:
        tell(diagnosis)
    return FitResult(tuple(done.history), done.best_epoch, done.stopped_early,
                     course.timings(started, healed.elapsed_s), course.figures, folder,
                     diagnosis.findings if diagnosis else (), healed.healing, healed.steps, course.phases,
                     course.plan)  # fmt: skip


def _check_options(clip: Any, devices: int, **given: Any) -> None:
    check_devices(devices, given)
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
    setup: TrainingSetup, loss: Callable[..., Any], optimizer: Any, lr: float, clip: Any, steps: StepOptions, *,
    is_asked: bool,
) -> Healed:  # fmt: skip
    """The optimizer, after the model was healed if the caller wants it."""
    new_optimizer = partial(_new_optimizer, optimizer, setup.model, lr)
    healed = heal_first(
        setup.model, setup.train, loss, new_optimizer, clip, batch_size=setup.batch_size, seed=setup.seed,
        progress=setup.progress,
    ) if is_asked else Healed(new_optimizer())  # fmt: skip
    check_closure(healed.optimizer, is_scaled=has_scale(setup.fabric), has_clip=clip is not None,
                  has_out=setup.out is not None, has_groups=steps.accumulation > 1)  # fmt: skip
    return healed


def _new_optimizer(optimizer: Any, model: nn.Module, lr: float) -> Optimizer:
    return make_optimizer(optimizer, model.parameters(), lr)


def _described(
    lr: float, precision: str, epochs: int, scheduler: Any, optimizer: Any, healed: Healed
) -> dict[str, Any]:  # fmt: skip
    """What a resumed run must have as well, beside its data and its model."""
    return {"lr": lr, "precision": precision, "epochs": epochs, "scheduler": describe_callable(scheduler),
            **describe_optimizer(optimizer, healed.optimizer)}  # fmt: skip


def _settings(
    setup: TrainingSetup, loss: Callable[..., Any], epochs: int, clip: Any, patience: int | None, again: Path | None,
    described: dict[str, Any], watch: Watch | None, steps: StepOptions, callbacks: Callbacks,
) -> Settings:  # fmt: skip
    """The settings of the training loop; `described` gets what a resumed run must have as well."""
    model, train, folder = setup.model, without_views(setup.train), setup.out
    described |= {"batch_size": setup.batch_size, "seed": setup.seed, "loss": describe_callable(setup.loss),
                  "metrics": list(setup.metrics), "frozen parameters": describe_line(model),
                  "model": describe_model(model), "classes": class_names(train), **describe_data(train, setup.val),
                  **setup.order_text, "frozen layers": describe_frozen(model) if folder or again else ""}  # fmt: skip
    ranks = setup.ranks
    return Settings(loss, setup.metrics, epochs, clip, patience, folder if ranks.is_first else None, again, described,
                    setup.progress, watch, partial(num_counted, setup.loss), ignored_label(setup.loss),
                    is_cross_entropy(setup.loss), class_names(train), steps=steps, callbacks=callbacks, ranks=ranks,
                    seed=setup.seed, mass=partial(mass_of, setup.loss))  # fmt: skip


@contextmanager
def _frozen(model: nn.Module, through: str | None, *, is_moving: bool) -> Generator[None]:
    """Inside, the model is frozen as this call asks, and runs as written; an error takes this freeze back."""
    with plain_calls(model), kept_freeze(model) if through is not None or is_moving else nullcontext():
        if through is not None:
            freeze_layers(model, through)
        check_promise(model, "fit(model)")
        check_places(model, "fit(model)")
        yield


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
