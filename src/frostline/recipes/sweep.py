"""Many heads in one pass over the same stored rows; the best one goes into the model.

Read top to bottom; copy it where your loop differs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from frostline.caching import EXACT, CachedDataset
from frostline.core.arguments import as_count, as_number, as_seed, check_flag, check_model
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.layers import default_dtype_of, unwrapped
from frostline.core.restore import kept_generators, plain_ambient
from frostline.core.selection_records import SweepResult, SweepRow
from frostline.recipes.stored_rows import RowOptions, stored_rows, told_as
from frostline.recipes.sweep_heads import SweptHead
from frostline.recipes.sweep_rows import check_rows, split_rows
from frostline.selection import SOLVED, SweepPlan, Ways, read_settings, run_sweep
from frostline.training import (
    OPTIMIZERS,
    ignored_label,
    make_collector,
    make_joint_loss,
    make_loss,
    make_metrics,
    make_optimizer,
    num_counted,
    output_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from frostline.caching import FeatureCache
    from frostline.selection import HeadCourse


@public("sweep", alone="loss(head(*features), target)")
def sweep(
    head: nn.Module, data: Any, settings: Sequence[Mapping[str, Any]] | Mapping[str, Any], *,
    val: Any = None, val_share: float = 0.2, loss: str | Callable[..., Any] = "cross_entropy",
    metric: str | Callable[..., Any] | Sequence[str] | Mapping[str, Any] | None = None, epochs: int = 10,
    batch_size: int = 64, seed: int = 0, halving: int | None = None, apply: bool = True, progress: bool = True,
    cache: bool | str | Path | FeatureCache = True, num_workers: int = 0, views: int | None = None,
    collate_fn: Callable[..., Any] | None = None, storage: str = EXACT,
    frozen_pass: str | Sequence[str] | None = None,
) -> SweepResult:  # fmt: skip
    """Train one head for each setting, all over the same batches of stored rows, and put the best one into the model.

    Every head gets the weights and the noise that it would get alone. Linear heads are one matrix product; others are
    mapped by `torch.func.vmap` where that gives the same, and trained one after the other on each batch where not.

    Args:
        head: `split.head`, or a module that is called on the features; with a dataset, the whole model, of which a
            part is frozen. Heads start from its weights.
        data: What `FeatureCache.fill` gave; or a map-style dataset, of which the rows are stored first as `fit` does
            it, with the options below.
        settings: A list of mappings, one for each head; or one mapping of lists, whose combinations are meant. Names:
            `lr` (1e-3), `weight_decay` (the optimizer's own), `optimizer` (`adamw`, `adam`, `sgd`, `rmsprop`,
            callable(parameters), or `probe`: the output layer is solved, not trained), `dropout` (before the output
            layer, or in the head's own layers of noise), `width` (units of a new hidden layer before the output layer),
            `seed` (of new layers and noise).
        val: Rows, or a dataset, that the heads are compared on.
        val_share: Without `val`: this share of the rows, of every class, is held out for it. Of rows with views, heads
            are compared on the first one.
        loss: As `fit` takes it.
        metric: As `fit` takes it; the first one ranks the heads, higher is better. Accuracy for cross entropy.
        epochs: Passes over the training rows.
        batch_size: Samples per step.
        seed: Of the order of the rows, of what is held out, and of heads whose setting has no seed.
        halving: Go on with the best of so many after a first few epochs, and again; None trains all to the end.
        apply: Put the best head into the model; False leaves the model as it is.
        progress: One line per epoch and a bar, on standard error.
        cache: Of a dataset: where its rows are kept, as `fit` takes it; True is your cache home.
        num_workers: Of a dataset: processes that read samples.
        views: Of a dataset with random augmentation: views of each sample, of which every epoch takes the next, as
            `fit` takes them.
        collate_fn: Of a dataset whose samples differ in size, as `fit` takes it.
        storage: Of a dataset: how its rows lie on the disk, as `fit` takes it.
        frozen_pass: Of a dataset: ways to compute its rows in less time, as `fit` takes them.

    Returns:
        The best row, a table of all, their histories. The score of the best of many heads is an optimistic one: the
        rows that chose it should not be those that it is reported on.

    Raises:
        DataError: If an argument, a setting or the rows cannot be used, or every head diverged.
        SplitError: If a model cannot be split exactly.
        NotCacheable: If its frozen part must not be cached.
    """
    started = time.perf_counter()
    head = unwrapped(check_model("sweep", head))[0]
    epochs, batch_size = as_count("sweep", "epochs", epochs), as_count("sweep", "batch_size", batch_size)
    seed, share = as_seed("sweep", "seed", seed), as_number("sweep", "val_share", val_share, above=0, below=1)
    factor = None if halving is None else as_count("sweep", "halving", halving, least=2)
    apply, progress = check_flag("sweep", "apply", apply), check_flag("sweep", "progress", progress)
    chosen = read_settings(settings, optimizers=OPTIMIZERS, seed=seed)
    chosen_loss, metrics = make_loss(loss), make_metrics(metric, loss)
    with told_as("sweep", train="data", model="head"):
        options = RowOptions.of(data, cache=cache, storage=storage, frozen_pass=frozen_pass, num_workers=num_workers,
                                views=views, collate_fn=collate_fn)  # fmt: skip
        if not isinstance(data, CachedDataset):
            head, data, val = stored_rows(head, data, val, options, loss=loss, metrics=metrics, epochs=epochs,
                                          batch_size=batch_size, seed=seed, progress=progress)  # fmt: skip
    train, held_out = split_rows(data, val, share, seed)
    ways = Ways(chosen_loss, make_joint_loss(loss), _optimizer, output_of)
    with plain_ambient(default_dtype_of(head)), kept_generators():
        swept = SweptHead(head, ways)
        loader: Any = train.loader(batch_size, shuffle=True, seed=seed, device=swept.device)
        val_loader: Any = held_out.loader(_rows_at_once(held_out, batch_size), device=swept.device)
        batch = next(iter(loader))
        check_rows(swept.base, batch[0], loss, chosen_loss, {"sweep(data)": train, "sweep(val=...)": held_out})
        families = swept.families([one for one in chosen if one.optimizer != SOLVED], batch)
        solved = {one.number: swept.solved(one, loader, loss) for one in chosen if one.optimizer == SOLVED}
        plan = SweepPlan(epochs, factor, partial(num_counted, loss), lambda: _Judge(metrics, ignored_label(loss)),
                         progress)  # fmt: skip
        courses = run_sweep(families, loader, val_loader, plan, solved)
    best = min(courses, key=lambda course: course.rank_key)
    if not best.best_epoch or not best.state:
        raise DataError(
            what="Every head diverged: no loss was finite.", where="sweep(settings=...)",
            received=f"{len(courses)} settings, lr from {min(c.setting.lr for c in courses):g}",
            do="lower the learning rates, or check the features: torch.isfinite(features).all().",
        )  # fmt: skip
    notes = swept.put_in(best) if apply else ()
    rows = tuple(_row(course) for course in sorted(courses, key=lambda course: course.rank_key))
    return SweepResult(
        rows[0], rows, tuple(tuple(course.history) for course in courses), next(iter(metrics), "minus the loss"),
        len(train), len(held_out), time.perf_counter() - started, notes,
    )  # fmt: skip


class _Judge:
    """The metrics of one head over one validation."""

    def __init__(self, metrics: Mapping[str, Any], ignored: int | None) -> None:
        self._collectors = {name: make_collector(metric, ignored) for name, metric in metrics.items()}

    def add(self, output: Any, target: Any) -> None:
        for collector in self._collectors.values():
            collector.add(output, target)

    def result(self) -> dict[str, float]:
        return {name: collector.result() for name, collector in self._collectors.items()}


def _optimizer(optimizer: Any, parameters: list[Any], lr: float, weight_decay: float | None) -> torch.optim.Optimizer:
    made = make_optimizer(optimizer, parameters, lr)
    if weight_decay is not None:
        for group in made.param_groups:
            group["weight_decay"] = weight_decay
    return made


_BYTES_AT_ONCE = 2**23  # of features in one batch of a validation, which needs no gradients


def _rows_at_once(data: CachedDataset, batch_size: int) -> int:
    of_row = sum(tensor.bytes_per_sample for tensor in data.frontier if not tensor.shared)
    return max(batch_size, min(len(data), _BYTES_AT_ONCE // max(1, of_row)))


def _row(course: HeadCourse) -> SweepRow:
    best = course.history[course.best_epoch - 1]
    nan = float("nan")
    is_known = course.outcome != "diverged"
    return SweepRow(
        course.setting.number, course.setting.given, course.score if is_known else nan,
        best.val_loss if is_known and best.val_loss is not None else nan, best.train_loss if is_known else nan,
        course.best_epoch if is_known else 0, len(course.history), course.outcome, course.way,
    )  # fmt: skip
