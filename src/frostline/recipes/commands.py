"""What `frostline fit`, `inspect` and `choose-depth` do: a new head, everything else frozen, unless told otherwise."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.arguments import as_count, as_number, as_numbers
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.io import check_new
from frostline.core.mismatch import told_mismatch
from frostline.core.records import Diagnosis, FitResult
from frostline.data import ImageFolder, class_names, labels_of, split_share, with_classes_of
from frostline.data.counts import SampleCounts, place_of_sample, sample_counts, shared_samples
from frostline.recipes.checkup import checkup
from frostline.recipes.choose_depth import choose_depth
from frostline.recipes.fit import fit
from frostline.recipes.healing import heal_first
from frostline.recipes.predict import prepared_by, shape_of_sample, versions
from frostline.recipes.pretrained import load_pretrained
from frostline.recipes.save import about, save_model
from frostline.splitting import Explanation, split
from frostline.training import (
    CrossEntropy,
    DatasetBatches,
    check_metric,
    check_settings,
    describe_model,
    make_loss,
    make_metrics,
    make_optimizer,
)
from frostline.transfer import freeze, replace_head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from frostline.core.depth_report import DepthReport
    from frostline.recipes.schedules import ThawSchedule


MOVED_BY_FIT = ("auto", "converged")  # values of --freeze that are no layers


@dataclass(frozen=True)
class FitReport:
    """What `frostline fit` shows."""

    model: str
    weights: str
    classes: tuple[str, ...]
    result: FitResult
    reused: str
    samples: SampleCounts
    class_weights: dict[str, float] | None = None

    def text(self) -> str:
        """For people."""
        last, timings = self.result.history[self.result.best_epoch - 1], self.result.timings
        lines = [f"Data:     {self.samples}"]
        if self.class_weights is not None:
            weights = ", ".join(f"{name} {weight:.3g}" for name, weight in self.class_weights.items())
            lines.append(f"          weights of the classes in the loss: {weights}")
        lines += [f"Reused:   {self.reused}",
                 f"Trained:  {_epochs(len(self.result.history))}; loss {last.train_loss:.4f} in epoch {last.epoch}, "
                 "which is kept"]  # fmt: skip
        if last.val_metrics:
            scores = ", ".join(f"{name} {score:.4f}" for name, score in last.val_metrics.items())
            lines.append(f"Scores:   {scores} on validation data, epoch {last.epoch}")
        lines += [f"          {phase}" for phase in self.result.phases if len(self.result.phases) > 1]
        if self.result.cache is not None:
            cache = self.result.cache
            lines.append(
                f"Cache:    {cache.computed} samples computed, {cache.reused} reused, {cache.bytes / 1e6:.1f} MB"
            )
        if self.result.healing is not None:
            lines.append(
                f"Healed:   {'; '.join(_kept(self.result)) or 'nothing to treat was found, nothing was changed'}"
            )
            healing = self.result.healing
            lines += [f"          {t.why}" for t in healing.treatments if t.kept and healing.accepted]
        lines.append(f"Health:   {_health(self.result)}")
        uncached = f"; uncached about {timings.uncached_s:.1f} s (estimate)" if timings.uncached_s else ""
        lines.append(f"Time:     {timings.total_s:.1f} s{uncached}")
        return "\n".join([*lines, f"Saved:    {self.weights}"])


@dataclass(frozen=True)
class InspectReport:
    """What `frostline inspect` shows."""

    layers: tuple[tuple[str, str, str, int], ...]
    explanation: Explanation
    samples: int
    price: str
    reused: str


@dataclass(frozen=True)
class CheckupReport:
    """What `frostline checkup` shows."""

    diagnosis: Diagnosis
    batches: int
    elapsed_s: float
    reused: str

    def text(self) -> str:
        """For people: what, how it is known, what to do, what it costs."""
        lines = [
            f"Reused:   {self.reused}",
            str(self.diagnosis),
            f"Looked at {self.batches} batches on a copy, in {self.elapsed_s:.1f} s.",
        ]
        if self.diagnosis.cause is not None:
            lines.append("The advice costs one new training; each proof above is a training on these batches.")
        return "\n".join(lines)


@public("frostline checkup")
def checkup_command(
    model: nn.Module, dataset: Any, *, name: str, weights: str | None, batch_size: int, lr: float, steps: int,
    seed: int, certificate: str | None = None, budget: float | None = None,
) -> CheckupReport:  # fmt: skip
    """Train copies for so many batches of AdamW, every layer watched, and say what keeps it from learning."""
    batch_size = as_count("frostline checkup", "--batch-size", batch_size)
    budget = as_number("frostline checkup", "--budget", budget, above=0) if budget is not None else None
    classes = classes_of(dataset)
    _, reused = _start(model, classes, name, weights, certificate)
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
    val_share: float | None, epochs: int, batch_size: int, lr: float, seed: int, out: Path, cache: bool,
    resume: bool, heal: bool = False, certificate: str | None = None, optimizer: str = "adamw",
    scheduler: str | None = None, patience: int | None = None, metric: Sequence[str] = ("accuracy",),
    class_weights: str | None = None, label_smoothing: float = 0.0, head: str | None = None, num_workers: int = 0,
    overwrite: bool = False, thaw: ThawSchedule | None = None,
) -> FitReport:  # fmt: skip
    """Build the head, freeze, train, save; `heal` treats the model first if it is sick."""
    has_val = val is not None or val_share is not None
    check_settings(epochs=epochs, batch_size=batch_size, lr=lr, patience=patience, precision="32-true", devices=1,
                   has_val=has_val, has_clip=False, num_workers=num_workers, optimizer=optimizer,
                   scheduler=scheduler)  # fmt: skip
    for used in () if resume or overwrite else ("model.json", "checkpoint.json"):
        check_new(out / used, "--out", others="--resume goes on with the run there, --overwrite replaces it")
    if resume and (out / "model.json").exists() and not (out / "checkpoint.json").exists():
        raise DataError(
            what="This run cannot be resumed: its checkpoint is gone.", where="--resume", received=str(out),
            do="replace the run with --overwrite, or pass another --out.",
        )  # fmt: skip
    whole, images, classes = dataset, prepared_by(dataset), classes_of(dataset)
    if not has_val and tuple(metric) != ("accuracy",):
        raise DataError(
            what="A metric is computed on validation data, and there are none.", where="--metric",
            received=", ".join(metric), do="add --val-share 0.2, or --val DATA.",
        )  # fmt: skip
    if val_share is not None:
        dataset, val = split_share(whole, val_share, seed)
    if val is not None:
        _tell_shared(dataset, val)
    loss = _loss(dataset, class_weights, label_smoothing)
    _check_metrics(make_metrics(metric, loss), len(classes))
    first = None if freeze in MOVED_BY_FIT else freeze
    reused = set_up(model, whole, name, weights, first, certificate, head, freezes=first == freeze)
    built = describe_model(model)
    healed = heal_first(
        model, dataset, make_loss(loss), lambda: make_optimizer(optimizer, model.parameters(), lr),
        batch_size=batch_size, seed=seed, progress=True,
    ) if heal else None  # fmt: skip
    is_treated = describe_model(model) != built
    result = fit(model, dataset, val, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, out=out, cache=cache,
                 resume=out if resume else None, loss=loss, optimizer=healed.optimizer if healed else optimizer,
                 scheduler=scheduler, patience=patience, metric=metric, num_workers=num_workers,
                 overwrite=overwrite, freeze=freeze if first != freeze else None, thaw=thaw)  # fmt: skip
    if healed is not None:
        result = replace(result, healing=healed.healing, healing_steps=healed.steps)
    facts: dict[str, Any] = {"model": name, "classes": classes, "best_epoch": result.best_epoch, "head": head}
    facts |= {"images": images, "metric": metric, "freeze": freeze, "versions": versions()}
    facts |= {
        "data": "images" if isinstance(whole, ImageFolder) else "arrays",
        "input": shape_of_sample(dataset),
        "epochs": len(result.history),
    }
    if weights is not None and (settings := about(Path(weights)).get("settings")):
        facts["settings"] = settings
    if is_treated:
        facts["treated"] = _kept(result)
    path = save_model(model, out, facts)
    weighted = loss.class_weights if isinstance(loss, CrossEntropy) else None
    by_class = dict(zip(classes, weighted.tolist(), strict=True)) if weighted is not None else None
    val = with_classes_of(dataset, val) if val is not None else None
    return FitReport(name, str(path), classes, result, reused, sample_counts(dataset, val), by_class)


@public("frostline inspect")
def inspect_command(
    model: nn.Module, dataset: Any, *, name: str, weights: str | None, freeze: str | None,
    certificate: str | None = None,
) -> InspectReport:  # fmt: skip
    """Split as `fit` would, and say what it would cost."""
    reused = set_up(model, dataset, name, weights, freeze, certificate)
    count = min(4, len(dataset))
    items = [batches.unpack(dataset[index], index)[0] for index in range(count)]
    example = batches.collate(items, range(count))
    with told_mismatch(model, example):
        explanation = split(model, example).explain()
    layers = tuple(_layer(path, module) for path, module in model.named_modules() if _has_own_parameters(module))
    stored = explanation.bytes_per_sample * len(dataset) / 1e6
    seconds = explanation.frozen_s / explanation.samples * len(dataset)
    price = f"Price:     {stored:.1f} MB and about {seconds:.1f} s once for {len(dataset)} samples"
    return InspectReport(layers, explanation, len(dataset), price, reused)


@public("frostline choose-depth")
def choose_depth_command(
    model: nn.Module, dataset: Any, *, name: str, weights: str | None, certificate: str | None, samples: int,
    epochs: int, seed: int, num_workers: int, cache: str | None,
) -> DepthReport:  # fmt: skip
    """Weights, a new head for the dataset's classes, and the lines at which the rest could be frozen."""
    if weights is None and _is_random(name):
        sys.stderr.write("No --weights: the layers are random, not pretrained.\n")
    _start(model, classes_of(dataset), name, weights, certificate)
    return choose_depth(model, dataset, samples=samples, epochs=epochs, seed=seed, num_workers=num_workers,
                        cache=True if cache is None else cache)  # fmt: skip


def set_up(
    model: nn.Module, dataset: Any, name: str, weights: str | None, freeze_through: str | None,
    certificate: str | None, head_name: str | None = None, *, freezes: bool = True,
) -> str:  # fmt: skip
    """Weights, a new head for the dataset's classes, and the freeze, unless it is left out; says what was reused."""
    if weights is None and _is_random(name):
        sys.stderr.write("No --weights: the frozen layers are random, not pretrained.\n")
    head, first = _start(model, classes_of(dataset), name, weights, certificate, head_name)
    if freeze_through is not None:
        freeze(model, freeze_through)
    elif freezes:
        kept = {id(parameter) for parameter in head.parameters()}
        freeze(model, parameters=[p for p in model.parameters() if id(p) not in kept])
    return first


def classes_of(dataset: Any) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        DataError: If the targets are numbers.
    """
    if dataset.classes is None:
        raise DataError(
            what="The targets are not class indices.", where="DATA", received="numbers",
            do="use the library for regression: frostline.fit(model, data, loss='mse').",
        )  # fmt: skip
    return tuple(dataset.classes)


def _start(
    model: nn.Module, classes: tuple[str, ...], name: str, weights: str | None, certificate: str | None,
    head_name: str | None = None,
) -> tuple[nn.Module, str]:  # fmt: skip
    """Weights and a head, and what was reused."""
    if weights is not None:
        return load_pretrained(model, weights, classes, spec=name, certificate=certificate, head=head_name)
    if certificate is not None:
        raise DataError(
            what="There is nothing to certify: no weights are given.", where="--certificate", received=certificate,
            do="give the weights, too: --weights FILE.",
        )  # fmt: skip
    reused = "nothing (random layers)" if _is_random(name) else f"the layers as {name} makes them (no --weights)"
    return replace_head(model, len(classes), name=head_name), reused


def _is_random(name: str) -> bool:
    """True if a model of this name is built without weights; a function of the user's own may have loaded some."""
    return name.startswith(("timm:", "hf:"))


def _tell_shared(train: Any, val: Any) -> None:
    """Say on standard error how many validation samples are training samples too: scores of these are too good."""
    if found := shared_samples(train, val):
        sys.stderr.write(
            f"data: {len(found)} of {len(val)} validation samples are training samples, too, such as "
            f"{place_of_sample(val, found[0])}: scores on them are too good.\n"
        )


def _check_metrics(metrics: Mapping[str, Any], num_classes: int) -> None:
    """Raise if a metric cannot take outputs of so many classes, before weights are loaded and the model is healed."""
    for metric in metrics.values():
        check_metric(metric, torch.zeros(2, num_classes), torch.tensor([0, 1]))


def _loss(dataset: Any, class_weights: str | None, label_smoothing: float) -> str | CrossEntropy:
    """Cross entropy, weighted and smoothed as the options say.

    Raises:
        DataError: If there is not one positive weight per class, or the smoothing is not a share below 1.
    """
    smoothing = as_number("frostline fit", "--label-smoothing", label_smoothing)
    if not 0 <= smoothing < 1:
        raise DataError(
            what="Label smoothing is a share of probability.", where="--label-smoothing", received=f"{smoothing:g}",
            do="pass a number of 0 or more and below 1, such as 0.1.",
        )  # fmt: skip
    if class_weights is None:
        return CrossEntropy(None, smoothing) if smoothing else "cross_entropy"
    return CrossEntropy(class_weights_of(dataset, class_weights), smoothing)


def class_weights_of(dataset: Any, text: str) -> Tensor:
    """(C,) float32 of mean 1 over the samples if balanced by their counts, else as given."""
    classes, labels = tuple(class_names(dataset) or ()), labels_of(dataset)
    if text == "balanced":
        if labels is None:
            raise DataError(
                what="The labels of this dataset are not known before it is read.", where="--class-weights balanced",
                received=type(dataset).__name__, do=f"give a number per class: --class-weights {_ones(classes)}.",
            )  # fmt: skip
        counts = torch.bincount(labels[labels >= 0], minlength=len(classes)).clamp(min=1)
        return (len(labels) / (len(classes) * counts)).float()
    weights = as_numbers("--class-weights", text, f"balanced, or {_ones(classes)}")
    if len(weights) != len(classes) or not all(0 < weight < math.inf for weight in weights):
        raise DataError(
            what="Every class needs one weight above 0.", where="--class-weights",
            received=f"{text} for {len(classes)} classes: {', '.join(classes[:10])}",
            do=f"give one for each, in this order: --class-weights {_ones(classes)}; or --class-weights balanced.",
        )  # fmt: skip
    return torch.tensor(weights)


def _ones(classes: tuple[str, ...]) -> str:
    return ",".join("1" for _ in classes)


def _health(result: FitResult) -> str:
    """The issues by name; measurements and advice are printed when training ends, and are in the JSON."""
    issues = [finding for finding in result.findings if finding.outcome == "issue"]
    places = [f"{f.code} {f.title}{f' in {f.layer}' if f.layer else ''}" for f in issues]
    tips = len(result.findings) - len(issues)
    told = "; ".join(places) or "no issue"
    return f"{told}; {tips} tip{'s' if tips > 1 else ''}" if tips else told


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _kept(result: FitResult) -> list[str]:
    healing = result.healing
    if healing is None or not healing.accepted:
        return []
    return [treatment.name for treatment in healing.treatments if treatment.kept]


def _layer(path: str, module: nn.Module) -> tuple[str, str, str, int]:
    own = list(module.parameters(recurse=False))
    state = "trainable" if any(parameter.requires_grad for parameter in own) else "frozen"
    return path or "(the model)", type(module).__name__, state, sum(parameter.numel() for parameter in own)


def _has_own_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
