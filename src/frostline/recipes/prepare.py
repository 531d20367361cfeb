"""Gets a model and its data ready to train: split and cached where something is frozen, plain where nothing is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from frostline.caching import (
    CachedDataset,
    DatasetState,
    FeatureCache,
    Proofs,
    Storage,
    Together,
    Views,
    builders_of,
    check_steady,
    faster_part,
    fill_as_planned,
    of_any_length,
    recipe_key,
)
from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.mismatch import told_mismatch
from frostline.core.restore import kept_generators, kept_if_written
from frostline.core.timing import wait
from frostline.diagnosis import facts_of_input
from frostline.recipes.cache_cost import warn_of_cost
from frostline.recipes.first_samples import FEW, refuse_texts
from frostline.recipes.loop_cost import loop_step_s
from frostline.recipes.model_precision import InPrecision, precision_of
from frostline.recipes.padded_loss import check_padded_loss
from frostline.recipes.planned_cache import PlannedCache, planned_cache
from frostline.recipes.rounded_loss import with_losses
from frostline.recipes.run_cache import cache_of
from frostline.recipes.stored_line import SHOWN, StoredLine
from frostline.recipes.training_setup import Ready, TrainingSetup
from frostline.recipes.viewed_data import steady_validation
from frostline.splitting import KeptPlaces, frozen_side_in_inference_mode, remembered_split, verify_once, wrapped
from frostline.training import DatasetBatches, first_outputs, in_dtype
from frostline.transfer import check_still

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.caching import Builders
    from frostline.splitting import FasterPart, Split


# Rows of a real batch that the split is proven on, gradients included; `fill` goes on proving it on others. More are
# read only where values steer the model.
_PROVEN = 8


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
            check_steady(setup.val, setup.form)
    places = KeptPlaces(setup.model)  # a look is no call of the training
    is_frozen = any(not parameter.requires_grad for parameter in setup.model.parameters())
    if is_frozen and is_cached and setup.cache is not False:
        places.check()
        with places.kept_memos(), wrapped():  # wrapping anew for every batch takes longer than a small batch
            return _cached(setup, num_epochs, earlier)
    if not is_frozen and setup.cache is not False and setup.progress and earlier is None:
        sys.stderr.write("Nothing is frozen: training without a cache (frostline.freeze makes one worthwhile).\n")
    if places.iterators:
        sys.stderr.write(f"model: not run before it trains, since that would move {places.iterators[0]!r} on.\n")
        return Ready(setup.model, setup.plain, setup.plain_val)
    with _look(setup.model, places):
        if is_frozen:
            return _uncached(setup)
        setup.first.check_dataset(setup.model, setup.plain, setup.plain_val)
    return Ready(setup.model, setup.plain, setup.plain_val)


@contextmanager
def _look(model: nn.Module, places: KeptPlaces | None = None) -> Generator[None]:
    """Inside, the model runs to be looked at; afterwards it keeps what it kept anywhere in Python, and its weights."""
    with (places or KeptPlaces(model)).kept(), kept_if_written([*model.parameters()]):
        yield


def frozen_epoch_at_most_s(setup: TrainingSetup) -> float:
    """Seconds to read all samples and to run the whole model on them, from its first samples in a small batch."""
    if isinstance(setup.train, CachedDataset):
        return math.inf
    started = time.perf_counter()
    first = setup.first.inputs(setup.plain, _PROVEN)
    read_s = time.perf_counter() - started
    with _look(setup.model), setup.fabric.autocast(), told_mismatch(setup.model, first):
        first_outputs(setup.model, first)  # the first run may load kernels
        started = time.perf_counter()
        first_outputs(setup.model, first)
        wait()
    count = setup.plain.num_samples + (setup.plain_val.num_samples if setup.plain_val is not None else 0)
    return count * (read_s + time.perf_counter() - started) / min(_PROVEN, setup.plain.num_items)


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
    loader = train.loader(setup.batch_size, shuffle=True, seed=setup.seed, by_length=setup.by_length)
    loader.drawn = setup.drawn
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
        few = _few(setup, first)
        with told_mismatch(setup.model, first):
            output = first_outputs(setup.model, few)
        setup.first.check_output(output, min(FEW, setup.plain.num_items), setup.plain, setup.plain_val)
        with told_mismatch(setup.model, shown):
            notes = around.enter_context(frozen_side_in_inference_mode(setup.model, shown))
    for note in notes:
        sys.stderr.write(f"model: {note}\n")
    return Ready(setup.model, setup.plain, setup.plain_val, around=around)


def _shown(setup: TrainingSetup) -> tuple[Any, Any]:
    """The first samples, and what the model is split by; no frozen layer moves when it runs on them."""
    first = setup.first.inputs(setup.plain, _PROVEN)
    with told_mismatch(setup.model, first):
        check_still(setup.model, _few(setup, first))
    if setup.example is None:
        return first, first
    return first, in_dtype(batches.move(setup.example, setup.fabric.device), precision_of(setup.model))


def _few(setup: TrainingSetup, first: Any) -> Any:
    """Inputs of a few samples. A collate function pads to the longest of them, or returns no table of rows."""
    return batches.rows(first, slice(0, FEW)) if setup.collate_fn is None else setup.few_inputs()


def _cached(setup: TrainingSetup, num_epochs: int, earlier: Ready | None) -> Ready:
    """Ready with stored features: the model is split, the split is proven, and what is not stored yet is computed."""
    own = {"fit(train)": setup.plain} | ({"fit(val=...)": setup.plain_val} if setup.plain_val else {})
    states = {where: DatasetState(plain.dataset, has_identity=True) for where, plain in own.items()}
    store = cache_of(setup.cache, setup.out)
    proofs, plan = store.location.proofs(), None
    faster = cache(partial(_faster, setup, store))  # a pass that is compiled takes a minute
    with setup.fabric.autocast():
        started = time.perf_counter()
        made, real, read_s, frozen_s = _proven_split(setup, proofs)
        if setup.is_planned:
            planned = _planned(setup, made, store, proofs, own, num_epochs, faster)
            sys.stderr.write("".join(f"cache: {note}\n" for note in planned.notes))
            if planned.split is None:
                with _look(setup.model):
                    return replace(_uncached(setup), plan=planned.plan, split_s=time.perf_counter() - started)
            made, plan = planned.split, planned.plan
        split_s = time.perf_counter() - started
        started = time.perf_counter()
        line = _filled(
            setup, made, faster(made), store, proofs, own, num_epochs, read_s + frozen_s,
            earlier.line if earlier else None,
        )  # fmt: skip
        fill_s = time.perf_counter() - started
    for state in states.values():
        state.leave_out_moved()
    notes = [f"split: {note}\n" for note in made.explain().notes]
    sys.stderr.write("".join([*notes, *(f"cache: {note}\n" for data in line.data.values() for note in data.notes)]))
    data, *val_data = line.data.values()
    by_length = setup.plain.lengths if setup.by_length else False
    with setup.fabric.autocast():
        figures = with_losses(setup, made, _in_precision(made, setup.model), data)
    loader = data.loader(setup.batch_size, shuffle=True, seed=setup.seed, by_length=by_length)
    loader.drawn = setup.drawn
    return Ready(
        made.head, loader,
        val_data[0].loader(setup.batch_size) if val_data else None, figures, split_s, fill_s,
        frozen_epoch_s=sum(
            plain.num_samples * rows.figures.row_s for plain, rows in zip(own.values(), line.data.values(), strict=True)
        ),
        inputs=partial(facts_of_input, next(iter(batches.leaves(real).values())), (), {}),
        check=partial(_check_same, states), line=line, plan=plan,
    )  # fmt: skip


def _planned(
    setup: TrainingSetup, made: Split, store: FeatureCache, proofs: Proofs, own: Mapping[str, DatasetBatches],
    num_epochs: int, faster: Callable[[Split], Split | FasterPart],
) -> PlannedCache:  # fmt: skip
    """What is stored of the samples of all datasets, in this run or by the decision of an earlier start."""

    def missing(split: Split) -> int:
        if setup.collate_fn is not None:
            return sum(len(plain.dataset) for plain in own.values())
        part = _in_precision(faster(split), setup.model)
        if not store.location.holds(recipe_key(Storage(setup.storage, part).part)):
            return sum(len(plain.dataset) for plain in own.values())
        with kept_generators():
            plans = [store.plan(part, plain.dataset, storage=setup.storage) for plain in own.values()]
        return sum(plan.num_missing for plan in plans)

    size, samples = min(setup.batch_size, setup.plain.num_items), sum(plain.num_samples for plain in own.values())
    return planned_cache(
        made, store, proofs, missing, samples=samples, rows=sum(len(plain.dataset) for plain in own.values()),
        epochs=num_epochs, batch_size=size, read_s=_read_s(setup.plain, size), step_s=loop_step_s(),
    )  # fmt: skip


def _read_s(plain: DatasetBatches, size: int) -> float:
    """Seconds to read a sample in an epoch: the quicker of two batches, since the first one may open files."""
    times: list[float] = []
    with kept_generators():
        for indices in ([*range(size)], [*range(plain.num_items - size, plain.num_items)]):
            started = time.perf_counter()
            plain.batch(indices)
            times.append(time.perf_counter() - started)
    return min(times) / size / max(1, plain.num_workers)


def _proven_split(setup: TrainingSetup, proofs: Proofs) -> tuple[Split, Any, float, float]:
    """(the split, the first samples that it was proven on, seconds to read a sample, seconds of its frozen part)."""
    with _look(setup.model):  # what the split leaves anywhere is compared with what was there before
        started = time.perf_counter()
        first, shown = _shown(setup)
        read_s = (time.perf_counter() - started) / min(_PROVEN, setup.plain.num_items)
    refuse_texts(first, setup.model.forward)
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
    return made, real, read_s, frozen_s


def _faster(setup: TrainingSetup, store: FeatureCache, made: Split) -> Split | FasterPart:
    """The frozen part of a split as the run computes it."""
    return faster_part(made, setup.frozen_pass, setup.batch_size, store.root, has_one_size=setup.collate_fn is None)


def _filled(
    setup: TrainingSetup, made: Split, run: Split | FasterPart, store: FeatureCache, proofs: Proofs,
    own: Mapping[str, DatasetBatches], num_epochs: int, row_s: float, earlier: StoredLine | None,
) -> StoredLine:  # fmt: skip
    """The features of all datasets; before the training data is run, a warning is printed if a cache saves no time."""
    part = _in_precision(run, setup.model)
    frozen = frozenset(name for name, parameter in setup.model.named_parameters() if not parameter.requires_grad)
    # rows cost the layers between two lines, no item
    is_climbing = earlier is not None and not setup.frozen_pass and earlier.frozen < frozen
    filled: dict[str, CachedDataset] = {}
    for where, plain in own.items():
        samples, padding = of_any_length(part, plain.dataset, setup.collate_fn)
        # rows of differing length, and those of a faster pass, are computed from their items
        lower = earlier if padding is None and not setup.frozen_pass else None
        has_choice = not (is_climbing or setup.is_planned or setup.needs_rows)
        warns = setup.progress and plain is setup.plain and has_choice
        with nullcontext() if plain is setup.plain else steady_validation():
            filled[where] = fill_as_planned(
                store.location, part, samples, setup.batch_size, setup.num_workers, padding=padding,
                progress=setup.progress, is_fresh=True,
                on_plan=partial(warn_of_cost, part, num_epochs, row_s) if warns else (lambda _: None),
                earlier=lower.earlier(where, frozen, proofs) if lower is not None else None, storage=setup.storage,
                builders=_builders(setup, store, part, plain),
            )  # fmt: skip
    return StoredLine(frozen, made.head, filled)


def _builders(setup: TrainingSetup, store: FeatureCache, part: Any, plain: DatasetBatches) -> Builders | None:
    """Who reads the samples of a fill: the processes that train together, those of a cluster, or this one."""
    if setup.ranks.count > 1:
        store.location.check_reached(f"fit(devices={setup.ranks.count})")
        return Together(setup.ranks)
    return builders_of(store.location, part, plain.dataset, setup.batch_size, setup.num_workers,
                       engine=store.engine, storage=setup.storage, collate_fn=setup.collate_fn)  # fmt: skip


def _in_precision(part: Any, model: nn.Module) -> Split | InPrecision:
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
