"""Gets a model and its data ready to train: split and cached where something is frozen, plain where nothing is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.caching import (
    CachedDataset,
    DatasetState,
    FeatureCache,
    Proofs,
    Views,
    check_steady,
    fill_as_planned,
    of_any_length,
)
from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.mismatch import told_mismatch
from frostline.core.timing import wait
from frostline.diagnosis import InputFacts, facts_of_input
from frostline.recipes.cache_cost import warn_of_cost
from frostline.recipes.first_samples import FEW, FirstSamples, refuse_texts
from frostline.recipes.model_precision import InPrecision, precision_of
from frostline.recipes.padded_loss import check_padded_loss
from frostline.recipes.run_cache import cache_of
from frostline.recipes.stored_line import SHOWN, StoredLine
from frostline.recipes.viewed_data import steady_validation
from frostline.splitting import frozen_side_in_inference_mode, remembered_split, verify_once
from frostline.training import DatasetBatches, Metric, first_outputs, in_dtype
from frostline.transfer import check_still

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.core.records import CacheFigures
    from frostline.splitting import Split


# Rows of a real batch that the split is proven on, gradients included; `fill` goes on proving it on others. More are
# read only where values steer the model.
_PROVEN = 8


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

    @cached_property
    def first(self) -> FirstSamples:
        """The checks on the first samples."""
        return FirstSamples(self.loss, self.metrics, self.fabric)

    @cached_property
    def plain(self) -> DatasetBatches:
        """Training batches of the items themselves."""
        views = self.train.count if isinstance(self.train, Views) else 1
        return self._batches(self.train, shuffle=True, seed=self.seed, views=views)

    @cached_property
    def plain_val(self) -> DatasetBatches | None:
        """Validation batches of the items themselves."""
        return self._batches(self.val) if self.val is not None else None

    def few_inputs(self) -> Any:
        """Inputs of a few samples, in the precision that the model has now."""
        return self.first.inputs(self._batches(self.train), FEW)

    def _batches(self, dataset: Any, **order: Any) -> DatasetBatches:
        return DatasetBatches(dataset, self.batch_size, keep=batches.required_labels(self.model.forward),
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

    def uncached_s(self, epochs_s: float, num_epochs: int) -> float | None:
        """Seconds that the same epochs take without a cache; None where nothing is cached."""
        return epochs_s + self.frozen_epoch_s * num_epochs if self.figures else None


def prepare(
    setup: TrainingSetup, num_epochs: int, earlier: Ready | None = None, *, is_cached: bool = True
) -> Ready:  # fmt: skip
    """Make ready for training: cached if a part of the model is frozen and a cache is wanted, otherwise plain.

    Args:
        setup: Of the run.
        num_epochs: Epochs that the stored rows serve.
        earlier: What was made ready at another frost line of the same run; its features are used where they can.
        is_cached: False leaves the cache out, as `cache=False` does.

    Raises:
        DataError: If the data cannot be used.
        SplitError: If the model cannot be split.
        NotCacheable: If the frozen part must not be cached.
    """
    if isinstance(setup.train, CachedDataset):
        return _from_cached(setup, setup.train)
    if isinstance(setup.train, Views) and setup.val is not None:
        with steady_validation():
            check_steady(setup.val)
    if any(not parameter.requires_grad for parameter in setup.model.parameters()):
        is_cached = is_cached and setup.cache is not False
        return _cached(setup, num_epochs, earlier) if is_cached else _uncached(setup)
    if setup.cache is not False and setup.progress and earlier is None:
        sys.stderr.write("Nothing is frozen: training without a cache (frostline.freeze makes one worthwhile).\n")
    setup.first.check_dataset(setup.model, setup.plain, setup.plain_val)
    return Ready(setup.model, setup.plain, setup.plain_val)


def frozen_epoch_at_most_s(setup: TrainingSetup) -> float:
    """Seconds to read all samples and to run the whole model on them, from its first samples in a small batch."""
    if isinstance(setup.train, CachedDataset):
        return math.inf
    started = time.perf_counter()
    first = setup.first.inputs(setup.plain, _PROVEN)
    read_s = time.perf_counter() - started
    with setup.fabric.autocast(), told_mismatch(setup.model, first):
        first_outputs(setup.model, first)  # the first run may load kernels
        started = time.perf_counter()
        first_outputs(setup.model, first)
        wait()
    count = setup.plain.num_samples + (setup.plain_val.num_samples if setup.plain_val is not None else 0)
    return count * (read_s + time.perf_counter() - started) / batches.batch_size(first)


def _from_cached(setup: TrainingSetup, train: CachedDataset) -> Ready:
    """Ready with features that the caller has stored."""
    val = setup.val
    if val is not None and not isinstance(val, CachedDataset):
        raise DataError(
            what="Training data is cached, validation data is not.", where="fit(val=...)",
            received=type(val).__name__, do="fill the validation data through the same FeatureCache and split.",
        )  # fmt: skip
    if val is not None and val.views > 1:
        raise DataError(
            what="Validation data has several views, of which each epoch would see another.", where="fit(val=...)",
            received=f"{val.views} views", do="fill the validation data without views, from a deterministic dataset.",
        )  # fmt: skip
    loader = train.loader(setup.batch_size, shuffle=True, seed=setup.seed)
    features, target = next(iter(train.loader(FEW)))
    with setup.fabric.autocast():
        inputs = in_dtype(batches.move(features, setup.fabric.device), precision_of(setup.model))
        output = first_outputs(setup.model, inputs)
    setup.first.check_targets(output, target, next(iter(val.loader(FEW)))[1] if val is not None else None)
    return Ready(setup.model, loader, val.loader(setup.batch_size) if val is not None else None, train.figures)


def _uncached(setup: TrainingSetup) -> Ready:
    """Ready without a cache: the model leaves out the noise that it leaves out where features are cached."""
    around = ExitStack()
    with setup.fabric.autocast():
        first, shown = _shown(setup)
        # a batch is padded to its own longest sample, and its targets with it
        few = batches.rows(first, slice(0, FEW)) if setup.collate_fn is None else setup.few_inputs()
        with told_mismatch(setup.model, first):
            output = first_outputs(setup.model, few)
        setup.first.check_output(output, batches.batch_size(few), setup.plain, setup.plain_val)
        with told_mismatch(setup.model, shown):
            notes = around.enter_context(frozen_side_in_inference_mode(setup.model, shown))
    for note in notes:
        sys.stderr.write(f"model: {note}\n")
    return Ready(setup.model, setup.plain, setup.plain_val, around=around)


def _shown(setup: TrainingSetup) -> tuple[Any, Any]:
    """The first samples, and what the model is split by; no frozen layer moves when it runs on them."""
    first = setup.first.inputs(setup.plain, _PROVEN)
    with told_mismatch(setup.model, first):
        check_still(setup.model, batches.rows(first, slice(0, FEW)))
    if setup.example is None:
        return first, first
    return first, in_dtype(batches.move(setup.example, setup.fabric.device), precision_of(setup.model))


def _cached(setup: TrainingSetup, num_epochs: int, earlier: Ready | None) -> Ready:
    """Ready with stored features: the model is split, the split is proven, and what is not stored yet is computed."""
    own = {"fit(train)": setup.plain} | ({"fit(val=...)": setup.plain_val} if setup.plain_val else {})
    states = {where: DatasetState(plain.dataset, has_identity=True) for where, plain in own.items()}
    store = cache_of(setup.cache, setup.out)
    proofs = Proofs(store.root)
    with setup.fabric.autocast():
        started = time.perf_counter()
        made, real, row_s = _proven_split(setup, proofs)
        split_s = time.perf_counter() - started
        started = time.perf_counter()
        line = _filled(setup, made, store, proofs, own, num_epochs, row_s, earlier.line if earlier else None)
        fill_s = time.perf_counter() - started
    for state in states.values():
        state.leave_out_moved()
    notes = [f"split: {note}\n" for note in made.explain().notes]
    sys.stderr.write("".join([*notes, *(f"cache: {note}\n" for data in line.data.values() for note in data.notes)]))
    data, *val_data = line.data.values()
    return Ready(
        made.head, data.loader(setup.batch_size, shuffle=True, seed=setup.seed),
        val_data[0].loader(setup.batch_size) if val_data else None, data.figures, split_s, fill_s,
        frozen_epoch_s=sum(rows.figures.samples * rows.figures.row_s for rows in line.data.values()),
        inputs=partial(facts_of_input, next(iter(batches.leaves(real).values())), (), {}),
        check=partial(_check_same, states), line=line,
    )  # fmt: skip


def _proven_split(setup: TrainingSetup, proofs: Proofs) -> tuple[Split, Any, float]:
    """(the split, the first samples that it was proven on, seconds to read a sample and run its frozen part)."""
    started = time.perf_counter()
    first, shown = _shown(setup)
    read_s = (time.perf_counter() - started) / batches.batch_size(first)
    refuse_texts(first)
    plain, size = setup.plain, setup.batch_size
    with told_mismatch(setup.model, shown):
        more = partial(setup.first.inputs, plain, max(size, SHOWN)) if setup.example is None else None
        made = remembered_split(setup.model, shown, proofs, more)
    real = batches.rows(first, slice(0, max(2, min(size, _PROVEN))))
    part = _in_precision(made, setup.model)
    samples, padding = of_any_length(part, plain.dataset, setup.collate_fn)  # the split becomes one of every length
    modes = ("train",) if setup.val is None else ("train", "eval")
    frozen_s = verify_once(made, real, modes=modes, memory=proofs)
    readers = setup.first.readers()
    targets = batches.move(plain.batch([*range(batches.batch_size(real))])[1], setup.fabric.device) if readers else None
    for reader, is_loss in readers:
        made.check_loss(reader, real, targets, training=is_loss)
    if padding is not None:
        check_padded_loss(setup.model, made, samples, padding, setup.loss)
    features = made.example_features if padding is None else made.extract(setup.few_inputs())
    setup.first.check_output(first_outputs(made.head, features), _num_rows(features, made), plain, setup.plain_val)
    return made, real, read_s + frozen_s


def _filled(
    setup: TrainingSetup, made: Split, store: FeatureCache, proofs: Proofs, own: Mapping[str, DatasetBatches],
    num_epochs: int, row_s: float, earlier: StoredLine | None,
) -> StoredLine:  # fmt: skip
    """The features of all datasets; before the training data is run, a warning is printed if a cache saves no time."""
    part = _in_precision(made, setup.model)
    frozen = frozenset(name for name, parameter in setup.model.named_parameters() if not parameter.requires_grad)
    is_climbing = earlier is not None and earlier.frozen < frozen  # rows cost the layers between two lines, no item
    filled: dict[str, CachedDataset] = {}
    for where, plain in own.items():
        samples, padding = of_any_length(part, plain.dataset, setup.collate_fn)
        lower = earlier if padding is None else None  # rows of differing length are computed from their items
        warns = setup.progress and plain is setup.plain and not is_climbing
        with nullcontext() if plain is setup.plain else steady_validation():
            filled[where] = fill_as_planned(
                store, part, samples, setup.batch_size, setup.num_workers, padding=padding, progress=setup.progress,
                is_fresh=True, on_plan=partial(warn_of_cost, part, num_epochs, row_s) if warns else (lambda _: None),
                earlier=lower.earlier(where, frozen, proofs) if lower is not None else None,
            )  # fmt: skip
    return StoredLine(frozen, made.head, filled)


def _in_precision(part: Split, model: nn.Module) -> Split | InPrecision:
    """The split of a model, which takes the inputs of the dataset as they are."""
    dtype = precision_of(model)
    return part if dtype is None else InPrecision(part, dtype)


def _num_rows(features: tuple[Tensor, ...], part: Split) -> int:
    """Samples of these features."""
    return max(len(feature) for feature, own in zip(features, part.frontier, strict=True) if not own.shared)


def _check_same(states: Mapping[str, DatasetState]) -> None:
    """Raise if a dataset is not what it was when its items were cached: they are not read again."""
    for where, state in states.items():
        if moved := state.moved():
            raise DataError(
                what=f"The dataset was changed while fit runs: {', '.join(map(repr, moved[:3]))}.", where=where,
                received="another value at the start of an epoch than when its items were cached",
                do="leave the dataset as it is until fit returns, or train with frostline.fit(..., cache=False), which "
                "reads the items in every epoch.",
            )  # fmt: skip
