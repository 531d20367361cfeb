"""Gets a model and its data ready to train: split and cached where something is frozen, plain where nothing is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from frostline.caching import CachedDataset, DatasetState, Earlier, FeatureCache, FrozenPart, Proofs, fill_as_planned
from frostline.core import inputs as batches
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.core.mismatch import told_mismatch
from frostline.data import labels_of
from frostline.diagnosis import InputFacts, facts_of_input
from frostline.recipes.cache_cost import CacheCost
from frostline.splitting import frozen_side_in_inference_mode, remembered_split, verify_once
from frostline.training import (
    CrossEntropy,
    DatasetBatches,
    Metric,
    check_classes,
    check_loss_and_metrics,
    first_outputs,
    first_targets,
    in_dtype,
    is_cross_entropy,
    is_stateless,
)
from frostline.transfer import check_still

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.caching import FillPlan
    from frostline.core.records import CacheFigures
    from frostline.selection import Taps
    from frostline.splitting import Split


_Readers = list[tuple[Any, bool]]

# Samples that a split sees at least where values steer the model: small batches may not show that some are padded.
_SEEN = 32
# Rows of a real batch that the split is proven on, gradients included; `fill` goes on proving it on others. More are
# read only where values steer the model.
_PROVEN = 8
_FEW = 2  # samples that show how many classes the output has


@dataclass(frozen=True)
class Line:
    """A frost line of the run, and what is stored at it.

    Attributes:
        frozen: Names of the frozen parameters.
        head: What trains above it.
        data: Features of each dataset, by the argument of `fit`.
    """

    frozen: frozenset[str]
    head: nn.Module
    data: Mapping[str, CachedDataset]

    def __str__(self) -> str:
        figures = [data.figures for data in self.data.values()]
        names = ", ".join(tensor.name for tensor in next(iter(self.data.values())).frontier)
        reused, computed = sum(own.reused for own in figures), sum(own.computed for own in figures)
        return f"rows at {names}: {reused:,} reused, {computed:,} computed"

    def earlier(self, where: str, now: frozenset[str], proofs: Proofs) -> Earlier:
        """What it knows for a fill of this dataset at the line where these parameters are frozen."""
        data = self.data[where]
        return Earlier(data, partial(self._middle, data, proofs) if self.frozen < now else None)

    def _middle(self, data: CachedDataset, proofs: Proofs) -> Split | None:
        """The layers between this line and the one that the model has now; None where they cannot be split off."""
        device = next(self.head.parameters()).device
        features, _ = next(iter(data.loader(min(len(data), _SEEN), device=device)))
        try:
            return remembered_split(self.head, features, proofs)
        except (SplitError, NotCacheable, DataError):
            return None  # the rows are computed from the items


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
    line: Line | None = None

    def uncached_s(self, epochs_s: float, num_epochs: int) -> float | None:
        """Seconds that the same epochs take without a cache; None where nothing is cached."""
        return epochs_s + self.frozen_epoch_s * num_epochs if self.figures else None


def prepare(
    model: nn.Module, train: Any, val: Any, cache: bool | FeatureCache, fabric: Any, out: Path | None,
    *, num_epochs: int, batch_size: int, seed: int, progress: bool, example: Any = None, loss: Any = None,
    metrics: Mapping[str, str | Metric] | None = None, num_workers: int = 0, earlier: Ready | None = None,
) -> Ready:  # fmt: skip
    """Decide between the cached and the plain way, and say why.

    With `earlier`, what was made ready at another frost line for the same data, its features are used where they can.

    Raises:
        DataError: If the data cannot be used.
        SplitError: If the model cannot be split.
        NotCacheable: If the frozen part must not be cached.
    """
    check = _Fit(loss, metrics or {}, fabric)
    if isinstance(train, CachedDataset):
        return _from_cached(model, train, val, batch_size, seed, check)
    keep, dtype = batches.required_labels(model.forward), precision_of(model)
    reading: dict[str, Any] = {"keep": keep, "dtype": dtype, "num_workers": num_workers}
    plain = DatasetBatches(train, batch_size, shuffle=True, seed=seed, **reading)
    plain_val = DatasetBatches(val, batch_size, **reading) if val is not None else None
    is_frozen = any(not parameter.requires_grad for parameter in model.parameters())
    if not is_frozen:
        if cache is not False and progress and earlier is None:
            sys.stderr.write("Nothing is frozen: training without a cache (frostline.freeze makes one worthwhile).\n")
        check.of_dataset(model, plain, plain_val)
        return Ready(model, plain, plain_val)
    if cache is False:
        around = _uncached(model, plain, plain_val, fabric, example, check)
        return Ready(model, plain, plain_val, around=around)
    return _cached(model, plain, plain_val, store_of(cache, out), fabric, num_epochs=num_epochs, seed=seed,
                   progress=progress, example=example, check=check,
                   readers=_readers(loss, metrics or {}),
                   earlier=earlier.line if earlier is not None else None)  # fmt: skip


@dataclass(frozen=True)
class _Fit:
    """Whether labels, loss and metrics fit the outputs for the first samples, before anything that takes long.

    Attributes:
        loss: As `fit` takes it.
        metrics: By name.
        fabric: Device and precision.
    """

    loss: Any
    metrics: Mapping[str, str | Metric]
    fabric: Any

    def of_dataset(self, model: nn.Module, plain: DatasetBatches, plain_val: DatasetBatches | None) -> None:
        """Raise if they do not fit what the model itself returns."""
        few = [*range(min(_FEW, plain.batch_size, len(plain.dataset)))]
        inputs = batches.move(plain.batch(few)[0], self.fabric.device)
        with self.fabric.autocast(), told_mismatch(model, inputs):
            output = first_outputs(model, inputs)
        self.of_output(output, len(few), plain, plain_val)

    def of_output(self, output: Any, count: int, plain: DatasetBatches, plain_val: DatasetBatches | None) -> None:
        """Raise if they do not fit the output for so many first samples."""
        if is_cross_entropy(self.loss) and isinstance(self.loss, (str, CrossEntropy)):
            check_classes(output, _labels(plain, plain_val))
        val_target = first_targets(plain_val.dataset, count) if plain_val is not None else None
        self.of_targets(output, first_targets(plain.dataset, count), val_target)

    def of_targets(self, output: Any, target: Any, val_target: Any) -> None:
        """Raise if they do not fit the output and these targets."""
        target = batches.move(target, self.fabric.device)
        check_loss_and_metrics(
            output, target, val_target, self.loss, self.metrics, calls_loss=is_stateless(self.loss)
        )  # fmt: skip


def _labels(plain: DatasetBatches, plain_val: DatasetBatches | None) -> dict[str, tuple[Any, Tensor]]:
    """Datasets that keep their labels apart from their inputs, with these, by the argument of `fit`."""
    found = {"fit(train)": plain.dataset} | ({"fit(val=...)": plain_val.dataset} if plain_val is not None else {})
    return {where: (data, labels) for where, data in found.items() if (labels := labels_of(data)) is not None}


def _readers(loss: Any, metrics: Mapping[str, str | Metric]) -> _Readers:
    """Functions of the caller that get the output, and whether it is the loss; those of torch read nothing else."""
    found = [(loss, True), *((own, False) for own in metrics.values())]
    return [(own, is_loss) for own, is_loss in found if callable(own) and not is_stateless(own)]


def _uncached(
    model: nn.Module, plain: DatasetBatches, plain_val: DatasetBatches | None, fabric: Any, example: Any, check: _Fit
) -> ExitStack:
    """Around an uncached training: the model leaves out the noise that it leaves out where features are cached."""
    around = ExitStack()
    with fabric.autocast():
        first, shown = _shown(model, plain, fabric, example)
        few = batches.rows(first, slice(0, _FEW))
        with told_mismatch(model, first):
            output = first_outputs(model, few)
        check.of_output(output, batches.batch_size(few), plain, plain_val)
        with told_mismatch(model, shown):
            notes = around.enter_context(frozen_side_in_inference_mode(model, shown))
    for note in notes:
        sys.stderr.write(f"model: {note}\n")
    return around


def _shown(model: nn.Module, plain: DatasetBatches, fabric: Any, example: Any) -> tuple[Any, Any]:
    """The first samples, and what the model is split by; no frozen layer moves when it runs on them."""
    first = _first_samples(plain, fabric, _PROVEN)
    with told_mismatch(model, first):
        check_still(model, batches.rows(first, slice(0, _FEW)))
    return first, first if example is None else in_dtype(batches.move(example, fabric.device), precision_of(model))


def _first_samples(plain: DatasetBatches, fabric: Any, count: int) -> Any:
    """Inputs of the first samples as one batch."""
    return batches.move(plain.batch([*range(min(count, len(plain.dataset)))])[0], fabric.device)


def _cached(
    model: nn.Module, plain: DatasetBatches, plain_val: DatasetBatches | None, store: FeatureCache, fabric: Any,
    *, num_epochs: int, seed: int, progress: bool, example: Any, check: _Fit, readers: _Readers,
    earlier: Line | None,
) -> Ready:  # fmt: skip
    size, dtype = plain.batch_size, precision_of(model)
    read = {"fit(train)": plain} | ({"fit(val=...)": plain_val} if plain_val else {})
    states = {where: DatasetState(own.dataset, has_identity=True) for where, own in read.items()}
    with fabric.autocast():
        started = time.perf_counter()
        first, shown = _shown(model, plain, fabric, example)
        read_s = (time.perf_counter() - started) / batches.batch_size(first)
        _refuse_texts(first)
        proofs = Proofs(store.root)
        with told_mismatch(model, shown):
            more = partial(_first_samples, plain, fabric, max(size, _SEEN)) if example is None else None
            made = remembered_split(model, shown, proofs, more)
        real = batches.rows(first, slice(0, max(2, min(size, _PROVEN))))
        modes = ("train",) if plain_val is None else ("train", "eval")
        frozen_s = verify_once(made, real, modes=modes, memory=proofs)
        if readers:
            targets = batches.move(plain.batch([*range(batches.batch_size(real))])[1], fabric.device)
            for reader, is_loss in readers:
                made.check_loss(reader, real, targets, training=is_loss)
        features = made.example_features
        check.of_output(first_outputs(made.head, features), _num_rows(features, made), plain, plain_val)
        split_s = time.perf_counter() - started
        started = time.perf_counter()
        part = made if dtype is None else InPrecision(made, dtype)
        say = partial(_say_cost, part, num_epochs, read_s + frozen_s) if progress else (lambda _: None)
        frozen = frozenset(name for name, parameter in model.named_parameters() if not parameter.requires_grad)
        filled: dict[str, CachedDataset] = {}
        for where, own in read.items():
            filled[where] = fill_as_planned(
                store, part, own.dataset, size, plain.num_workers, progress=progress, is_fresh=True,
                on_plan=say if own is plain else (lambda _: None),
                earlier=earlier.earlier(where, frozen, proofs) if earlier is not None else None,
            )  # fmt: skip
        fill_s = time.perf_counter() - started
        frozen_epoch_s = sum(own.figures.samples * own.figures.row_s for own in filled.values())
    for state in states.values():
        state.leave_out_moved()
    for note in made.explain().notes:
        sys.stderr.write(f"split: {note}\n")
    for note in [note for data in filled.values() for note in data.notes]:
        sys.stderr.write(f"cache: {note}\n")
    data, *val_data = filled.values()
    loader = data.loader(size, shuffle=True, seed=seed)
    val_loader = val_data[0].loader(size) if val_data else None
    facts = partial(facts_of_input, next(iter(batches.leaves(real).values())), (), {})
    return Ready(made.head, loader, val_loader, data.figures, split_s, fill_s, frozen_epoch_s, facts,
                 check=partial(_check_same, states), line=Line(frozen, made.head, filled))  # fmt: skip


def _num_rows(features: tuple[Tensor, ...], part: Split) -> int:
    """Samples of these features."""
    return max(len(feature) for feature, own in zip(features, part.frontier, strict=True) if not own.shared)


def _say_cost(part: FrozenPart, num_epochs: int, row_s: float, plan: FillPlan) -> None:
    """Say on standard error, before the cache is filled, if it saves no time in this run."""
    row_bytes = sum(tensor.bytes_per_sample for tensor in part.frontier if not tensor.shared)
    cost = CacheCost(plan.num_samples, plan.num_missing, num_epochs, plan.row_s or row_s, row_bytes)
    if plan.num_missing and not cost.pays:
        sys.stderr.write(f"cache: {cost}\n")


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


def _refuse_texts(inputs: Any, name: str = "") -> None:
    """Raise if texts that differ from sample to sample are among the inputs: features follow from tensors alone."""
    if isinstance(inputs, Mapping):
        parts = cast("Mapping[Any, Any]", inputs).items()
    elif isinstance(inputs, (tuple, list)):
        parts = enumerate(cast("Sequence[Any]", inputs))
    else:
        return
    for key, part in parts:
        own = f"{name}.{key}" if name else str(key)
        texts = {text for text in cast("Sequence[Any]", part) if isinstance(text, str)} if _is_list(part) else ()
        if len(texts) > 1:
            raise DataError(
                what=f"The input {own!r} is a text, which cannot be kept with cached features.", where="fit(train)",
                received=f"{', '.join(map(repr, sorted(texts)[:3]))}, and others" if len(texts) > 3
                else ", ".join(map(repr, sorted(texts))),
                do="encode the texts as a tensor in the dataset, such as token ids; or train with "
                "frostline.fit(..., cache=False).",
            )  # fmt: skip
        _refuse_texts(part, own)


def _is_list(value: Any) -> bool:
    return isinstance(value, (tuple, list))


class InPrecision:
    """A frozen part whose model has half or double precision: its inputs are converted before they reach it."""

    def __init__(self, part: Split | Taps, dtype: torch.dtype) -> None:
        self._part, self._dtype = part, dtype
        self.recipe, self.frontier, self.is_steered = part.recipe, part.frontier, part.is_steered
        self.check_unchanged, self.check_weights = part.check_unchanged, part.check_weights

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """As the part itself."""
        return self._part.extract(in_dtype(inputs, self._dtype))

    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """As the part itself."""
        self._part.prove(in_dtype(inputs, self._dtype), features)


def precision_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of a model whose floats are all of half or double precision: its inputs are converted to it."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= {torch.float16, torch.bfloat16, torch.float64} else None


def _from_cached(
    model: nn.Module, train: CachedDataset, val: Any, batch_size: int, seed: int, check: _Fit
) -> Ready:  # fmt: skip
    if val is not None and not isinstance(val, CachedDataset):
        raise DataError(
            what="Training data is cached, validation data is not.", where="fit(val=...)",
            received=type(val).__name__, do="fill the validation data through the same FeatureCache and split.",
        )  # fmt: skip
    loader = train.loader(batch_size, shuffle=True, seed=seed)
    features, target = next(iter(train.loader(_FEW)))
    with check.fabric.autocast():
        output = first_outputs(model, in_dtype(batches.move(features, check.fabric.device), precision_of(model)))
    check.of_targets(output, target, next(iter(val.loader(_FEW)))[1] if val is not None else None)
    return Ready(model, loader, val.loader(batch_size) if val is not None else None, train.figures)


def store_of(cache: bool | FeatureCache, out: Path | None) -> FeatureCache:
    """The cache that was asked for: the caller's own, that of a run's folder, or that in the user's cache home."""
    if isinstance(cache, FeatureCache):
        return cache
    if out is not None:
        return FeatureCache(out / "cache")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return FeatureCache(Path(home) / "frostline")
