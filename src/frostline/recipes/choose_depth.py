"""How many layers to reuse: lines found, pooled features cached at all of them, scored, priced; one is chosen.

Read top to bottom; copy it where your question differs.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from frostline.caching import (
    EXACT,
    Collated,
    Computer,
    FeatureCache,
    as_loaded,
    check_storage,
    fill_as_planned,
    of_any_length,
    prove_some_rows,
    viewed,
)
from frostline.core import inputs as batches
from frostline.core.arguments import (
    BF16,
    as_count,
    as_frozen_pass,
    as_names,
    as_seed,
    check_callable,
    check_flag,
    check_model,
)
from frostline.core.collate import collate
from frostline.core.doors import public
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.core.layers import check_initialized, default_dtype_of, unwrapped
from frostline.core.mismatch import told_mismatch
from frostline.core.restore import kept_generators, kept_modes, plain_ambient, plain_calls
from frostline.core.selection_records import DepthReport
from frostline.data import Part, labels_of
from frostline.recipes.cache_cost import CacheCost
from frostline.recipes.model_precision import InPrecision, precision_of
from frostline.recipes.run_cache import cache_of
from frostline.recipes.stored_rows import told_as
from frostline.recipes.training_setup import form_of_run
from frostline.selection import (
    AsStored,
    Taps,
    choose,
    find_lines,
    priced_lines,
    sample_rows,
    scored_lines,
    step_times,
    targets_from,
)
from frostline.splitting import KeptPlaces, remembered_split
from frostline.training import compares_numbers, in_dtype
from frostline.transfer import freeze, passing_freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from frostline.caching import CachedDataset
    from frostline.core.selection_records import DepthRow
    from frostline.selection import Line, Targets
    from frostline.selection.scores import Scored

_EXAMPLE = 4  # samples by which lines are found and the split is proven
_BATCH = 512  # rows that are gathered at once


@dataclass(frozen=True)
class ScoredRows:
    """How the training would make its rows, as the options of `fit` of the same names say.

    Attributes:
        views: Views of each sample, or None. Lines are scored on the first: no fold is judged on other views of
            samples that it was fitted on.
        collate_fn: Of samples that differ in size, or None.
        storage: How features lie on the disk.
        frozen_pass: Names of the faster passes; of them, bf16 changes what is scored.
    """

    views: int | None = None
    collate_fn: Any = None
    storage: str = EXACT
    frozen_pass: tuple[str, ...] = ()

    @classmethod
    def of(cls, call: str, views: Any, collate_fn: Any, storage: Any, frozen_pass: Any) -> ScoredRows:
        """The options of a call, checked."""
        if collate_fn is not None:
            check_callable(call, "collate_fn", collate_fn, takes="(list of items), as a DataLoader takes it")
        views = None if views is None else as_count(call, "views", views)
        return cls(views, collate_fn, check_storage(call, storage), as_frozen_pass(call, frozen_pass))

    def shown(self, train: Any) -> Any:
        """The data that are scored: the first view of each sample."""
        return train if self.views is None else viewed(train, "choose_depth", 1)

    @property
    def way(self) -> AsStored:
        """The same for the taps."""
        told = [self.storage, *([BF16] if BF16 in self.frozen_pass else [])]
        return AsStored(
            " ".join(told) if told != [EXACT] else "",
            partial(as_loaded, self.storage) if self.storage != EXACT else None,
            torch.bfloat16 if BF16 in self.frozen_pass else None, is_varying=self.collate_fn is not None,
        )  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the table should know of them."""
        if not self.frozen_pass:
            return ()
        return (
            f"frozen_pass={' '.join(self.frozen_pass)}: seconds are those of the plain pass, which is slower",
        )  # fmt: skip

    def stored(self, rows: Sequence[DepthRow], shares: Mapping[str, float]) -> list[DepthRow]:
        """The rows with the bytes that a cache would store for each sample: of all views, and rounded."""
        count = self.views or 1
        return [
            replace(row, bytes_per_sample=round(count * row.bytes_per_sample * shares.get(row.through, 1.0)))
            if row.through is not None
            else row
            for row in rows
        ]


@dataclass(frozen=True)
class Depth:
    """A report, and what it was made from.

    Attributes:
        report: What `choose_depth` returns.
        targets: The targets of the sample.
        probes: The probe of each line by name; `(inputs)` is that of the inputs.
    """

    report: DepthReport
    targets: Targets
    probes: dict[str, Scored]


@public("choose_depth")
def choose_depth(
    model: nn.Module, train: Any, *, candidates: Sequence[str] | None = None, samples: int = 2000,
    cache: bool | str | Path | FeatureCache = True, epochs: int = 10, batch_size: int = 32, num_workers: int = 0,
    seed: int = 0, progress: bool = True, views: int | None = None, collate_fn: Callable[..., Any] | None = None,
    storage: str = EXACT, frozen_pass: str | Sequence[str] | None = None,
) -> DepthReport:  # fmt: skip
    """How many layers of a pretrained model to reuse for these data, measured, with what each choice costs.

    One pass over a sample keeps pooled features at every line; each line is scored by a cross-validated linear probe
    and others. The model is left as it was.

    Args:
        model: A pretrained model; what is frozen in it does not matter.
        train: A map-style dataset of `(inputs, target)`: classes, several labels of zeros and ones, or numbers.
        candidates: Names of layers to freeze through; None finds at most twelve lines.
        samples: At most so many samples are looked at, of each class the same share.
        cache: Where pooled features are kept: a folder or `FeatureCache`; True is the user's cache home, False a folder
            that is removed afterwards.
        epochs: Epochs of the training whose time is estimated.
        batch_size: Samples per pass of the frozen part.
        num_workers: Processes that read samples.
        seed: Of the sample and the folds.
        progress: Show a progress bar on standard error.
        views: Of data with random augmentation: the views of each sample that the training would store. Lines are
            scored on the first one; bytes and seconds are those of all.
        collate_fn: Of samples that differ in length, as `fit` takes it: each is scored at its own length.
        storage: How the training would keep features, as `fit` takes it: lines are scored on features that were
            rounded in this way.
        frozen_pass: How the training would compute them, as `fit` takes it: with `bf16`, lines are scored on features
            of that precision; the other ways change no score, and seconds are those of the plain pass.

    Returns:
        The report: `best` is the layer to freeze through, or None.

    Raises:
        DataError: If there are too few samples, one class, targets that are not finite, or features without variance.
        LayerNotFound: If a candidate is not in the model; the nearest names are listed.
        NotCacheable: If the output of the frozen part can be cached at none of the lines.
    """
    check_model("choose_depth", model, needs=())
    batches.check_map_style(train)
    made = ScoredRows.of("choose_depth", views, collate_fn, storage, frozen_pass)
    with told_as("choose_depth"), ExitStack() as stack:
        kept = stack.enter_context(TemporaryDirectory(prefix="frostline-")) if cache is False else cache
        return measured(model, made.shown(train), candidates, samples, kept, epochs, batch_size, num_workers, seed,
                        progress, made=made).report  # fmt: skip


def measured(
    model: nn.Module, train: Any, candidates: Sequence[str] | None, samples: int, cache: Any, epochs: int,
    batch_size: int, num_workers: int, seed: int, progress: bool, loss: Any = None, made: ScoredRows | None = None,
) -> Depth:  # fmt: skip
    """As `choose_depth`, with the held-out predictions that the report rests on.

    With `loss`, as `fit` takes it, whole numbers are classes only where the loss takes classes. Of data with views,
    `train` is the first of them.
    """
    check_model("choose_depth", model, needs=())
    batches.check_map_style(train)
    made = made or ScoredRows()
    names = as_names("choose_depth", "candidates", candidates) if candidates is not None else None
    samples, epochs, batch_size = (
        as_count("choose_depth", name, value)
        for name, value in (("samples", samples), ("epochs", epochs), ("batch_size", batch_size))
    )
    num_workers = as_count("choose_depth", "num_workers", num_workers, least=0)
    seed, progress = as_seed("choose_depth", "seed", seed), check_flag("choose_depth", "progress", progress)
    store = cache if isinstance(cache, FeatureCache) else cache_of(True, None) if cache is True else FeatureCache(cache)
    model, _ = unwrapped(model)
    check_initialized(model, "choose_depth(model)")
    has_numbers = compares_numbers(loss)
    labels = None if has_numbers else labels_of(train)
    part = Part(train, sample_rows(len(train), samples, None if labels is None else labels.numpy(), seed).tolist())
    with (
        plain_ambient(default_dtype_of(model)), plain_calls(model), kept_generators(), kept_modes(model),
        KeptPlaces(model).kept(),
    ):  # fmt: skip
        example, read_s = _example(model, part, made)
        with passing_freeze(model), told_mismatch(model, example):
            thaw(model)
            model.eval()
            fill = partial(fill_as_planned, store.location, batch_size=batch_size, num_workers=num_workers,
                           progress=progress)  # fmt: skip
            found = find_lines(model, example, names)
            lines, taps, data = _stored(model, found, example, store, fill, part, made)
            loaded = list(data.loader(_BATCH, device="cpu"))
        times = step_times(model, lines, example)
    given = torch.cat([target for _, target in loaded])
    targets = targets_from(given.double() if has_numbers else given, seed)
    parts = [torch.cat(own).numpy() for own in zip(*(features for features, _ in loaded), strict=True)]
    columns = dict(zip((tensor.name for tensor in taps.frontier), parts, strict=True))
    rows, probes = scored_lines(lines, taps, columns, targets)
    rows = made.stored(rows, taps.shares)
    rows = priced_lines(rows, times, read_s, len(train), epochs, partial(_fill_s, len(train), made.views or 1))
    _check_varies(rows, len(part))
    choice = choose(rows, targets.metric, targets.baseline, len(part))
    notes = (*targets.notes, *data.notes, *made.notes, *([times] if isinstance(times, str) else []))
    report = DepthReport(choice.best, tuple(rows), choice.advice, choice.reason, targets.metric, targets.baseline,
                         len(part), epochs, notes)  # fmt: skip
    return Depth(report, targets, probes)


def _check_varies(rows: Sequence[DepthRow], num_samples: int) -> None:
    if not any(row.probe is not None and row.through is not None and not row.why_not for row in rows):
        raise DataError(
            what="The features do not vary at any line: the model gives the same for all samples.",
            where="choose_depth(model)", received=f"{num_samples} samples, {len(rows)} lines",
            do="check that weights are loaded and that inputs are scaled as in the pretraining.",
        )  # fmt: skip


def _fill_s(num_samples: int, views: int, row_s: float, row_bytes: int) -> float:
    """Seconds to store all views of the samples; `row_bytes` are those of all views of one."""
    return CacheCost(num_samples, views * num_samples, 1, row_s, row_bytes // views).fill_s


def _example(model: nn.Module, part: Part, made: ScoredRows) -> tuple[Any, float]:
    """A few samples as a batch where the model is, in its precision, and the seconds to read one."""
    form, device = form_of_run(model, None), next(model.parameters()).device
    started, count = time.perf_counter(), min(_EXAMPLE, len(part))
    if made.collate_fn is not None:
        samples = Collated(part, made.collate_fn, form)
        padding = samples.padding()
        items = [samples[at][0] for at in range(count)]
        given = padding.batch(items)
    else:
        items = [form.unpack(batches.read(part, at), at)[0] for at in range(count)]
        given = collate(items, range(count))
    read_s = (time.perf_counter() - started) / count
    return in_dtype(batches.move(given, device), precision_of(model)), read_s


def _stored(
    model: nn.Module, lines: Sequence[Line], example: Any, store: FeatureCache, fill: Callable[..., CachedDataset],
    part: Part, made: ScoredRows,
) -> tuple[tuple[Line, ...], Taps, CachedDataset]:  # fmt: skip
    """The lines, with the reason at those that cannot be cached, and the features at all below the deepest that can."""
    found, dtype = list(lines), precision_of(model)
    for at in reversed(range(len(found))):
        if found[at].through is None or found[at].why_not:
            continue
        thaw(model)
        freeze(model, found[at].through)
        try:
            below = [line for line in found[: at + 1] if not line.why_not]  # rows of others depend on what trains
            split = remembered_split(model, example, store.location.proofs())
            own = split if dtype is None else InPrecision(split, dtype)
            samples, padding = of_any_length(own, part, made.collate_fn)  # the split becomes one of every length
            if padding is not None:
                prove_some_rows(Computer(own, {}, padding), samples)
            taps = Taps(model, split, below, example, made.way)
            data = fill(taps if dtype is None else InPrecision(taps, dtype), samples, padding=padding)
        except (SplitError, NotCacheable) as error:
            found[at] = replace(found[at], tap=None, why_not=f"{error.what} ({error.where})")
        else:
            return tuple(found), taps, data
    raise NotCacheable(
        what="The model can be frozen at none of these lines.", where=type(model).__name__,
        received="; ".join(f"{line.through}: {line.why_not}" for line in found if line.why_not) or "no lines",
        do="see frostline.split(model, example) after frostline.freeze(model, through=LAYER) for the whole reason.",
    )  # fmt: skip
