"""Which of several pretrained models to start from: each at its best line, on the same samples and folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from frostline.core.arguments import as_items
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import describe
from frostline.core.selection_records import ModelRanking, RankedModel
from frostline.recipes.choose_depth import ScoredRows, measured
from frostline.recipes.stored_rows import told_as
from frostline.selection.scores import resamples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from frostline.caching import FeatureCache
    from frostline.recipes.choose_depth import Depth

_INTERVAL = (0.025, 0.975)


@public("rank_models")
def rank_models(
    models: Sequence[nn.Module] | Mapping[str, nn.Module], train: Any, *, samples: int = 2000,
    cache: bool | str | Path | FeatureCache = True, epochs: int = 10, batch_size: int = 32, num_workers: int = 0,
    seed: int = 0, progress: bool = True, views: int | None = None, collate_fn: Callable[..., Any] | None = None,
    storage: str = "exact", frozen_pass: str | Sequence[str] | None = None,
) -> ModelRanking:  # fmt: skip
    """Which pretrained model to start from, by the linear probe at each model's best line.

    Models are compared on the same samples: the interval of a difference is that of the two predictions of each
    sample, and is narrower than the intervals of the two scores.

    Args:
        models: Two models or more, all of which take the inputs of `train`; a mapping gives them names.
        train: As `choose_depth` takes it.
        samples: As there; so are the others.
        cache: Where pooled features are kept.
        epochs: Epochs of the training whose time is estimated.
        batch_size: Samples per pass of the frozen part.
        num_workers: Processes that read samples.
        seed: Of the sample and the folds.
        progress: Show progress bars on standard error.
        views: As `choose_depth` takes them.
        collate_fn: As `choose_depth` takes it; so are the others.
        storage: How the training would keep features.
        frozen_pass: How the training would compute them.

    Returns:
        The models in order, with 95% intervals; `best` is None where the first two cannot be separated.

    Raises:
        DataError: As `choose_depth`, and for fewer than two models.
    """
    named = _named(models)
    made = ScoredRows.of("rank_models", views, collate_fn, storage, frozen_pass)
    with told_as("rank_models"):
        found = {
            name: measured(model, made.shown(train), None, samples, cache, epochs, batch_size, num_workers, seed,
                           progress, made=made)
            for name, model in named.items()
        }  # fmt: skip
    chosen = {name: _best_line(depth) for name, depth in found.items()}
    order = sorted(found, key=lambda name: -found[name].probes[chosen[name]].value)
    drawn = {name: _drawn(found[name], chosen[name]) for name in order}
    table = tuple(_ranked(name, order[0], found, chosen, drawn) for name in order)
    tied = [one.name for one in table[1:] if one.is_tied]
    report = found[order[0]].report
    return ModelRanking(order[0] if not tied else None, table, _advice(table, tied), report.metric, report.samples)


def _named(models: Any) -> dict[str, nn.Module]:
    if isinstance(models, Mapping):
        named = {str(name): model for name, model in cast("Mapping[Any, nn.Module]", models).items()}
    else:
        given = as_items("rank_models", "models", models)
        kinds = [type(model).__name__ for model in given]
        named = {
            kind if kinds.count(kind) == 1 else f"{kind} {kinds[: at + 1].count(kind)}": model
            for at, (kind, model) in enumerate(zip(kinds, given, strict=True))
        }
    if len(named) < 2:
        raise DataError(
            what="A ranking needs two models or more.", where="rank_models(models)", received=describe(models)
            if not named else ", ".join(named),
            do="pass a list of models, or a mapping of names; for one: frostline.choose_depth(model, train).",
        )  # fmt: skip
    return named


def _best_line(depth: Depth) -> str:
    """The name of the line whose probe scores best; the inputs are no line of the model."""
    usable = {row.through for row in depth.report.table if row.through is not None and not row.why_not}
    lines = {name: scored.value for name, scored in depth.probes.items() if name in usable}
    return max(lines, key=lambda name: lines[name])


def _drawn(depth: Depth, line: str) -> NDArray[np.float64]:
    """Scores of the held-out predictions over the bootstrap resamples, which are the same for all models."""
    predicted = depth.probes[line].predicted
    assert predicted is not None
    return np.array([depth.targets.score(predicted, rows) for rows in resamples(len(predicted))])


def _ranked(
    name: str, first: str, found: dict[str, Depth], chosen: dict[str, str], drawn: dict[str, NDArray[np.float64]]
) -> RankedModel:  # fmt: skip
    low, high = np.quantile(drawn[name], _INTERVAL)
    ahead = drawn[first] - drawn[name]
    nearest, farthest = np.quantile(ahead, _INTERVAL)
    score, best = found[name].probes[chosen[name]].value, found[first].probes[chosen[first]].value
    is_tied = name != first and bool(nearest <= 0 <= farthest)
    return RankedModel(name, score, float(low), float(high), chosen[name],
                       (best - score, float(nearest), float(farthest)), is_tied, found[name].report)  # fmt: skip


def _advice(table: Sequence[RankedModel], tied: Sequence[str]) -> str:
    first = table[0]
    start = f"{first.name} ({first.score:.3f}, {first.low:.3f} to {first.high:.3f}, at {first.line!r})"
    if tied:
        return (
            f"{start} scores best, but cannot be separated from {', '.join(tied)} by these samples: the 95% interval "
            f"of the difference holds 0. Take the cheapest of them, or pass more samples."
        )
    second = table[1]
    return (
        f"Start from {start}: {second.name}, the next, is {second.behind[0]:.3f} behind "
        f"({second.behind[1]:.3f} to {second.behind[2]:.3f})."
    )
