"""What a run is given, and what its training loop takes in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.caching import CachedDataset, FeatureCache, Views
from frostline.core.errors import DataError
from frostline.core.inputs import check_map_style, describe, read
from frostline.core.item_form import ItemForm, form_by_signature, form_of
from frostline.core.restore import kept_generators
from frostline.data import labels_of, with_classes_of
from frostline.diagnosis import InputFacts
from frostline.recipes.first_samples import FEW, FirstSamples
from frostline.recipes.model_precision import precision_of
from frostline.recipes.stored_line import StoredLine
from frostline.recipes.viewed_data import without_views
from frostline.training import DatasetBatches, Metric, Ranks, check_metric_targets, check_targets, is_stateless

if TYPE_CHECKING:
    from torch import nn

    from frostline.core.records import CacheFigures
    from frostline.core.storage_records import StoragePlan
    from frostline.recipes.sampled_order import SampledOrder


@dataclass(frozen=True)
class TrainingSetup:
    """A model, its data, and how they are trained: the same in all phases of a run.

    Attributes:
        model: Frozen as it is now.
        train: A dataset, views of one, or cached features.
        val: Validation data of the same kind, or None.
        cache: As `fit` takes it.
        fabric: Device and precision.
        out: The folder of the run, or None.
        batch_size: Samples per step, and per pass of the frozen part.
        seed: Of the order of samples.
        progress: Notes and bars go to standard error.
        example: A batch to split by; None takes the first samples.
        loss: As `fit` takes it.
        metrics: By name.
        num_workers: Processes that read samples.
        collate_fn: Makes a batch of samples that differ in size, or None.
        by_length: Batches of training data hold samples of like length.
        is_planned: Store what costs least, or nothing where training is quicker without a cache.
        storage: How features lie on the disk, as `FeatureCache.fill` takes it.
        frozen_pass: Names of the faster passes, as `FeatureCache.fill` takes them.
        drawn: The order of training samples, where a sampler draws it.
        needs_rows: The rows are stored whatever they cost: there is no run without a cache.
    """

    model: nn.Module
    train: Any
    val: Any
    cache: bool | FeatureCache
    fabric: Any
    out: Path | None
    batch_size: int
    seed: int
    progress: bool
    example: Any = None
    loss: Any = None
    metrics: Mapping[str, str | Metric] = field(default_factory=dict[str, "str | Metric"])
    num_workers: int = 0
    collate_fn: Any = None
    by_length: bool = False
    is_planned: bool = False
    storage: str = "exact"
    frozen_pass: tuple[str, ...] = ()
    drawn: SampledOrder | None = None
    needs_rows: bool = False

    @cached_property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return Ranks.of(self.fabric)

    @cached_property
    def first(self) -> FirstSamples:
        """The checks on the first samples."""
        return FirstSamples(self.loss, self.metrics, self.fabric)

    @cached_property
    def form(self) -> ItemForm:
        """Which parts of an item are inputs of the model."""
        return form_of_run(self.model, self.example)

    @cached_property
    def plain(self) -> DatasetBatches:
        """Training batches of the items themselves."""
        views = self.train.count if isinstance(self.train, Views) else 1
        return self._batches(self.train, shuffle=True, seed=self.seed, views=views, by_length=self.by_length,
                             drawn=self.drawn)  # fmt: skip

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        count = len(without_views(self.train)) if self.drawn is None else self.drawn.num_drawn
        return ceil(count / self.batch_size)

    @property
    def order_text(self) -> dict[str, str]:
        """What a resumed run must have of the order: the sampler, where there is one."""
        return {} if self.drawn is None else self.drawn.described

    @cached_property
    def plain_val(self) -> DatasetBatches | None:
        """Validation batches of the items themselves."""
        return self._batches(self.val) if self.val is not None else None

    def few_inputs(self) -> Any:
        """Inputs of a few samples, in the precision that the model has now."""
        return self.first.inputs(self._batches(self.train), FEW)

    def _batches(self, dataset: Any, **order: Any) -> DatasetBatches:
        return DatasetBatches(dataset, self.batch_size, form=self.form,
                              dtype=precision_of(self.model), num_workers=self.num_workers,
                              collate_fn=self.collate_fn, **order)  # fmt: skip


@dataclass(frozen=True)
class Ready:
    """What the training loop takes.

    Attributes:
        module: Called on a batch: the head, or the model itself.
        train: Training batches.
        val: Validation batches, or None.
        figures: Cache figures of the training data, or None.
        split_s: Seconds for recording and verifying.
        fill_s: Seconds for the frozen pass.
        inputs: Gives the scale of the inputs behind cached features, by the first samples; None where nothing was
            cached here.
        frozen_epoch_s: Seconds to read all samples and run their frozen part: what an uncached epoch costs more.
        around: Open during the training, closed after it.
        check: Raises where the datasets were changed since their items were cached.
        line: The frost line, with what is stored at it; None where nothing was cached here.
        plan: What there was to choose from, where the cache is planned.
    """

    module: nn.Module
    train: Any
    val: Any
    figures: CacheFigures | None = None
    split_s: float = 0.0
    fill_s: float = 0.0
    frozen_epoch_s: float = 0.0
    inputs: Callable[[], InputFacts | None] = lambda: None
    around: ExitStack = field(default_factory=ExitStack)
    check: Callable[[], None] | None = None
    line: StoredLine | None = None
    plan: StoragePlan | None = None

    def uncached_s(self, epochs_s: float, num_epochs: int) -> float | None:
        """Seconds that the same epochs take without a cache; None where nothing is cached."""
        return epochs_s + self.frozen_epoch_s * num_epochs if self.figures else None


def form_of_run(model: nn.Module, example: Any) -> ItemForm:
    """Which parts of an item are inputs: as the example has them, or as `forward` cannot do without."""
    return form_by_signature(model.forward) if example is None else form_of(example, model.forward)


def checked_validation(
    train: Any, val: Any, loss: Any, metrics: Mapping[str, Any], form: ItemForm, *, has_collate: bool
) -> Any:  # fmt: skip
    """The validation data, its classes numbered as those of the training data; the targets of both can be used."""
    for data in (train, val) if val is not None else (train,):
        check_map_style(data)
    val = with_classes_of(train, val)
    for data, where in ((train, "fit(train)"), (val, "fit(val=...)")):
        if (
            data is not None and not has_collate and not isinstance(data, CachedDataset)
        ):  # its samples are filled already
            _check_parts(data, loss, where, form)
            check_targets(data, loss, where, form)
    if val is not None and not isinstance(val, CachedDataset):
        check_metric_targets(metrics, val, labels_of(val))
    return val


def _check_parts(dataset: Any, loss: Any, where: str, form: ItemForm) -> None:
    """Raise if it is unclear which parts of an item the model takes; a loss of the caller may take several as targets.

    Raises:
        DataError: If parts could be inputs as well as targets of a loss that takes one.
    """
    if not (form.could_take_more and is_stateless(loss)):
        return  # nothing to ask an item about: each that is read costs time
    with kept_generators():
        item: Any = read(dataset, 0)
    if not form.is_unclear(item):
        return
    names = ", ".join(chr(ord("a") + at) for at in range(len(item) - 1))
    raise DataError(
        what="It is unclear which parts of an item are inputs of the model.", where=f"{where}, dataset[0]",
        received=f"{describe(item)}; the model needs {form.count} of them, and could take more",
        do=f"return pairs from the dataset: (({names}), target); or pass a batch of inputs to fit: example=({names}).",
    )  # fmt: skip
