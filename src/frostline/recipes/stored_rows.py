"""The stored rows of a whole model and its datasets, split, proven and filled as `fit` does it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.caching import EXACT, CachedDataset, ChecksBatches
from frostline.core.arguments import as_count
from frostline.core.errors import DataError, FrostlineError
from frostline.core.inputs import check_map_style, describe
from frostline.core.layers import check_initialized, default_dtype_of
from frostline.core.restore import kept_generators, plain_ambient, plain_calls, seed_generators
from frostline.recipes.cache_options import CacheOptions, cache_options
from frostline.recipes.prepare import prepare
from frostline.recipes.training_setup import TrainingSetup, checked_validation, form_of_run
from frostline.recipes.viewed_data import shown_data
from frostline.training import import_fabric, make_fabric
from frostline.transfer import check_places, check_promise

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from torch import nn

    from frostline.training import Metric

_NAMED = re.compile(r"\bfit\((train|model|val|views|collate_fn|storage|frozen_pass|cache|loss)\b")


@dataclass(frozen=True)
class RowOptions:
    """How rows are made of a dataset, as the options of `fit` of the same names say.

    Attributes:
        stored: Cache, storage and frozen pass.
        num_workers: Processes that read samples.
        views: Views of each sample, or None.
        collate_fn: Of samples that differ in size, or None.
    """

    stored: CacheOptions
    num_workers: int
    views: int | None
    collate_fn: Any

    @classmethod
    def of(
        cls, data: Any, *, cache: Any, storage: Any, frozen_pass: Any, num_workers: Any, views: Any, collate_fn: Any
    ) -> RowOptions:
        """The options, checked; of cached features, all of them must be as usual.

        Raises:
            DataError: If one cannot be used, or does not leave rows to train on.
        """
        given = {"views": views, "collate_fn": collate_fn, "frozen_pass": frozen_pass}
        given |= {"storage": storage if storage != EXACT else None}
        for name, value in given.items() if isinstance(data, CachedDataset) else ():
            if value is not None:
                raise DataError(
                    what="Rows that are stored already take no option of a fill.", where=f"fit({name}=...)",
                    received=f"{value!r} and a CachedDataset",
                    do=f"leave {name} out, or pass the whole model and the dataset; FeatureCache.fill takes it too.",
                )  # fmt: skip
        if cache is False or cache == "auto":
            raise DataError(
                what="Heads are trained on stored rows: this call cannot do without them.", where="fit(cache=...)",
                received=repr(cache), do="leave cache out, or pass a folder for the rows.",
            )  # fmt: skip
        stored = cache_options(cache, storage, frozen_pass, data)
        return cls(stored, as_count("sweep", "num_workers", num_workers, least=0), views, collate_fn)


def stored_rows(
    model: nn.Module, data: Any, val: Any, options: RowOptions, *, loss: Any, metrics: Mapping[str, str | Metric],
    epochs: int, batch_size: int, seed: int, progress: bool,
) -> tuple[nn.Module, CachedDataset, CachedDataset | None]:  # fmt: skip
    """(the head, the rows of the data, those of the validation data or None) of a model.

    Args:
        model: Partly frozen; it is moved to the device that `fit` would take.
        data: A map-style dataset.
        val: Validation data of the same kind, or None.
        options: How the rows are made.
        loss: As `fit` takes it; it is tried on the first samples.
        metrics: By name; they are tried, too.
        epochs: Passes over the rows: no more views are stored.
        batch_size: Samples per pass of the frozen part.
        seed: Of what is drawn while the model is looked at.
        progress: Notes and bars go to standard error.

    Raises:
        DataError: If nothing is frozen, or the data cannot be used.
        SplitError: If the model cannot be split.
        NotCacheable: If the frozen part must not be cached.
    """
    check_map_style(data)
    check_initialized(model, "fit(model)")
    if isinstance(model, ChecksBatches):
        raise DataError(
            what="A head is trained on stored rows, and a dataset has none.", where="fit(model)",
            received=f"the head of a split, and {describe(data)}",
            do="pass the whole model with the dataset; or the head with what FeatureCache.fill(split, dataset) gives.",
        )  # fmt: skip
    if all(parameter.requires_grad for parameter in model.parameters()):
        raise DataError(
            what="Nothing of this model is frozen, so that there are no rows to store.", where=type(model).__name__,
            received="trainable parameters only",
            do="frostline.freeze(model, through=LAYER) first; frostline.choose_depth finds the layer.",
        )  # fmt: skip
    form = form_of_run(model, None)
    val = checked_validation(data, val, loss, metrics, form, has_collate=options.collate_fn is not None)
    shown, val, collate_fn = shown_data(data, val, options.views, epochs, options.collate_fn, form, by_length=False)
    import_fabric()
    fabric = make_fabric("32-true", 1, None)
    setup = TrainingSetup(model, shown, val, options.stored.cache, fabric, None, batch_size, seed, progress,
                          loss=loss, metrics=metrics, num_workers=options.num_workers, collate_fn=collate_fn,
                          needs_rows=True, **options.stored.of_setup)  # fmt: skip
    model.to(fabric.device)
    with plain_calls(model), plain_ambient(default_dtype_of(model)), kept_generators():
        seed_generators(seed)
        check_promise(model, "fit(model)")
        check_places(model, "fit(model)")
        ready = prepare(setup, epochs)
    assert ready.line is not None  # something is frozen, and the rows are wanted
    rows, *val_rows = ready.line.data.values()
    return ready.module, rows, val_rows[0] if val_rows else None


@contextmanager
def told_as(call: str, **names: str) -> Generator[None]:
    """Inside, errors that name arguments of `fit` name those of this call; `names` are those it calls otherwise."""
    try:
        yield
    except FrostlineError as error:
        error.where = _NAMED.sub(lambda found: f"{call}({names.get(found[1], found[1])}", error.where)
        raise
