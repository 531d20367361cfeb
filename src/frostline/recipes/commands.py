"""What `frostline fit`, `inspect`, `checkup` and `choose-depth` do: by default a new head, everything else frozen."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.arguments import as_count, as_number
from frostline.core.collate import collate
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.mismatch import told_mismatch
from frostline.core.new_files import check_new
from frostline.data import Part, split_share, with_classes_of
from frostline.data.counts import place_of_sample, sample_counts, shared_samples
from frostline.recipes.checkup import checkup
from frostline.recipes.choose_depth import choose_depth
from frostline.recipes.class_weights import weighted_loss
from frostline.recipes.command_model import classes_of, is_random, set_up, with_head
from frostline.recipes.command_reports import CheckupReport, FitReport, InspectReport, kept_treatments
from frostline.recipes.first_samples import FEW
from frostline.recipes.fit import fit
from frostline.recipes.healing import heal_first
from frostline.recipes.model_facts import model_facts
from frostline.recipes.models import augmented_images
from frostline.recipes.phases import MovingLine
from frostline.recipes.save import save_model
from frostline.splitting import split
from frostline.training import (
    CrossEntropy,
    DatasetBatches,
    as_loggers,
    check_metric,
    check_settings,
    describe_model,
    make_loss,
    make_metrics,
    make_optimizer,
    step_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from frostline.core.selection_records import DepthReport
    from frostline.recipes.schedules import ThawSchedule


_INSPECTED = 32  # samples of the steps that `inspect` measures
_NOT_OF_STEPS = ("logger", "storage", "frozen_pass", "devices")  # of the further options of `fit`
MOVED_BY_FIT = ("auto", "converged")  # values of --freeze that are no layers


@public("frostline checkup")
def checkup_command(
    model: nn.Module, dataset: Any, *, name: str, weights: str | None, batch_size: int, lr: float, steps: int,
    seed: int, certificate: str | None = None, budget: float | None = None,
) -> CheckupReport:  # fmt: skip
    """Train copies for so many batches of AdamW, every layer watched, and say what keeps it from learning."""
    batch_size = as_count("frostline checkup", "--batch-size", batch_size)
    budget = as_number("frostline checkup", "--budget", budget, above=0) if budget is not None else None
    classes = classes_of(dataset)
    _, reused = with_head(model, classes, name, weights, certificate)
    started = time.perf_counter()
    data = DatasetBatches(dataset, batch_size, shuffle=True, seed=seed)
    found: list[Any] = []
    while len(found) < steps:
        found += list(data)[: steps - len(found)]
        data.epoch += 1
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer("adamw", trainable, lr)
    with told_mismatch(model, found[0][0]):
        diagnosis = checkup(model.train(), found, make_loss("cross_entropy"), optimizer, budget=budget)
    return CheckupReport(diagnosis, len(found), time.perf_counter() - started, reused)


@public("frostline fit")
def fit_command(
    model: nn.Module, dataset: Any, val: Any, *, name: str, weights: str | None, freeze: str | None,
    val_share: float | None, epochs: int, batch_size: int, lr: float, seed: int, out: Path, cache: bool | str,
    resume: bool, heal: bool = False, certificate: str | None = None, optimizer: str = "adamw",
    scheduler: str | None = None, patience: int | None = None, metric: Sequence[str] = ("accuracy",),
    class_weights: str | None = None, label_smoothing: float = 0.0, head: str | None = None, num_workers: int = 0,
    overwrite: bool = False, thaw: ThawSchedule | None = None, views: int | None = None, augment: str | None = None,
    **options: Any,
) -> FitReport:  # fmt: skip
    """Build the head, freeze, train, save; `heal` treats a sick model first. Other options are those of `fit`."""
    has_val = val is not None or val_share is not None
    check_settings(epochs=epochs, batch_size=batch_size, lr=lr, patience=patience, precision="32-true",
                   devices=options.get("devices", 1), has_val=has_val, num_workers=num_workers, optimizer=optimizer,
                   scheduler=scheduler)  # fmt: skip
    step_options(epochs=epochs, **{name: value for name, value in options.items() if name not in _NOT_OF_STEPS})
    as_loggers(options.get("logger"))
    _check_folder(out, resume=resume, overwrite=overwrite)
    classes = classes_of(dataset)
    train, val = _divided(dataset, val, val_share, seed)
    if views is not None or augment is not None:
        augmented = augmented_images(dataset, model, augment if augment is not None else "crop,flip")
        train = augmented if val_share is None else Part(augmented, train.indices)
    loss = weighted_loss(train, class_weights, label_smoothing, is_command=True)
    _check_metrics(metric, loss, len(classes), has_val=has_val)
    is_chosen = freeze in MOVED_BY_FIT
    reused = set_up(model, dataset, name, weights, None if is_chosen else freeze, certificate, head,
                    freezes=not is_chosen)  # fmt: skip
    built = describe_model(model)
    if (
        heal and thaw is not None and not is_chosen
    ):  # a schedule that does not fit is refused before the model is healed
        few = partial(DatasetBatches(train, FEW).batch, [*range(min(FEW, len(train)))])
        MovingLine(model, thaw, epochs=epochs, has_val=has_val, inputs=lambda: few()[0])
    healed = heal_first(
        model, train, make_loss(loss), lambda: make_optimizer(optimizer, model.parameters(), lr),
        batch_size=batch_size, seed=seed, progress=True,
    ) if heal else None  # fmt: skip
    is_treated = describe_model(model) != built
    result = fit(model, train, val, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, out=out, cache=cache,
                 resume=out if resume else None, loss=loss, optimizer=healed.optimizer if healed else optimizer,
                 scheduler=scheduler, patience=patience, metric=metric, num_workers=num_workers,
                 overwrite=overwrite, freeze=freeze if is_chosen else None, thaw=thaw, views=views,
                 **options)  # fmt: skip
    if healed is not None:
        result = replace(result, healing=healed.healing, healing_steps=healed.steps)
    facts = model_facts(name, dataset, best_epoch=result.best_epoch, epochs=len(result.history), head=head,
                        freeze=freeze, metric=metric, weights=weights)  # fmt: skip
    path = save_model(model, out, facts | ({"treated": kept_treatments(result)} if is_treated else {}))
    weighted = loss.class_weights if isinstance(loss, CrossEntropy) else None
    by_class = dict(zip(classes, weighted.tolist(), strict=True)) if weighted is not None else None
    counts = sample_counts(train, with_classes_of(train, val) if val is not None else None)
    return FitReport(name, str(path), classes, result, reused, counts, by_class)


def _check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise if the folder holds a run that this one would replace, or one that cannot be resumed."""
    for used in () if resume or overwrite else ("model.json", "checkpoint.json"):
        check_new(out / used, "--out", others="--resume goes on with the run there, --overwrite replaces it")
    if resume and (out / "model.json").exists() and not (out / "checkpoint.json").exists():
        raise DataError(
            what="This run cannot be resumed: its checkpoint is gone.", where="--resume", received=str(out),
            do="replace the run with --overwrite, or pass another --out.",
        )  # fmt: skip


def _divided(dataset: Any, val: Any, val_share: float | None, seed: int) -> tuple[Any, Any]:
    """Training and validation data; samples that are in both are printed."""
    train, val = (dataset, val) if val_share is None else split_share(dataset, val_share, seed)
    if val is not None and (found := shared_samples(train, val)):
        sys.stderr.write(
            f"data: {len(found)} of {len(val)} validation samples are training samples, too, such as "
            f"{place_of_sample(val, found[0])}: scores on them are too good.\n"
        )
    return train, val


def _check_metrics(metric: Sequence[str], loss: Any, num_classes: int, *, has_val: bool) -> None:
    """Raise if a metric cannot take outputs of so many classes, before weights are loaded and the model is healed."""
    if not has_val and tuple(metric) != ("accuracy",):
        raise DataError(
            what="A metric is computed on validation data, and there are none.", where="--metric",
            received=", ".join(metric), do="add --val-share 0.2, or --val DATA.",
        )  # fmt: skip
    metrics: dict[str, Any] = make_metrics(metric, loss)
    for one in metrics.values():
        check_metric(one, torch.zeros(2, num_classes), torch.tensor([0, 1]))


@public("frostline inspect")
def inspect_command(
    model: nn.Module, dataset: Any, *, name: str, weights: str | None, freeze: str | None,
    certificate: str | None = None,
) -> InspectReport:  # fmt: skip
    """Split as `fit` would, and say what it would cost."""
    reused = set_up(model, dataset, name, weights, freeze, certificate)
    count = min(4, len(dataset))
    started = time.perf_counter()
    items = [batches.unpack(dataset[index], index)[0] for index in range(count)]
    read_s = (time.perf_counter() - started) / count
    example = collate(items, range(count))
    with told_mismatch(model, example):
        made = split(model, example)
    plan = made.plan(len(dataset), read_s=read_s, batch_size=min(_INSPECTED, len(dataset)))
    explanation = replace(made.explain(), measure=lambda: plan)
    layers = tuple(_layer(path, module) for path, module in model.named_modules() if _has_own_parameters(module))
    stored = explanation.bytes_per_sample * len(dataset) / 1e6
    seconds = explanation.frozen_s / explanation.samples * len(dataset)
    price = f"Price:     {stored:.1f} MB and about {seconds:.1f} s once for {len(dataset)} samples"
    return InspectReport(layers, explanation, len(dataset), price, reused, plan)


@public("frostline choose-depth")
def choose_depth_command(
    model: nn.Module, dataset: Any, *, name: str, weights: str | None, certificate: str | None, samples: int,
    epochs: int, seed: int, num_workers: int, cache: str | None, views: int | None = None, augment: str | None = None,
    storage: str = "exact", frozen_pass: Sequence[str] | None = None,
) -> DepthReport:  # fmt: skip
    """Weights, a new head for the dataset's classes, and the lines at which the rest could be frozen."""
    if weights is None and is_random(name):
        sys.stderr.write("No --weights: the layers are random, not pretrained.\n")
    with_head(model, classes_of(dataset), name, weights, certificate)
    if views is not None or augment is not None:
        dataset = augmented_images(dataset, model, augment if augment is not None else "crop,flip")
    return choose_depth(model, dataset, samples=samples, epochs=epochs, seed=seed, num_workers=num_workers,
                        cache=True if cache is None else cache, views=views, storage=storage,
                        frozen_pass=frozen_pass)  # fmt: skip


def _layer(path: str, module: nn.Module) -> tuple[str, str, str, int]:
    own = list(module.parameters(recurse=False))
    state = "trainable" if any(parameter.requires_grad for parameter in own) else "frozen"
    return path or "(the model)", type(module).__name__, state, sum(parameter.numel() for parameter in own)


def _has_own_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
