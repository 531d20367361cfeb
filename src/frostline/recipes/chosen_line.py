"""The frost line of `fit(freeze="auto")`: chosen by `choose_depth` on the training data, and said."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from frostline.caching import CachedDataset, FeatureCache, Views
from frostline.core.errors import DataError
from frostline.recipes.choose_depth import choose_depth
from frostline.recipes.run_cache import cache_of
from frostline.training import has_checkpoint, recorded_settings

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from frostline.recipes.schedules import FreezeSchedule, ThawSchedule

CHOSEN = "frozen through"  # the setting of a run that names the line


def chosen_line(
    through: str | None, moves: ThawSchedule | FreezeSchedule | None, model: nn.Module, train: Any, *,
    device: torch.device, cache: bool | FeatureCache, out: Path | None, resume: Path | None, epochs: int,
    batch_size: int, num_workers: int, seed: int, progress: bool,
) -> tuple[str | None, ThawSchedule | FreezeSchedule | None]:  # fmt: skip
    """(the layer through which to freeze, the schedule that moves the line from there).

    Of "auto" the layer is the best one for these data, or None to train everything: then a plateau has nothing to
    thaw, and is left out. A run that is resumed keeps the line that it began with.

    Raises:
        DataError: If `choose_depth` cannot tell, or the data are features already.
    """
    if through != "auto":
        return through, moves
    if isinstance(train, CachedDataset):
        raise DataError(
            what="A line is chosen on the data itself, not on features of another line.", where="fit(freeze='auto')",
            received="a CachedDataset", do="pass the whole model and the dataset.",
        )  # fmt: skip
    is_resumed = resume is not None and has_checkpoint(resume)
    if not is_resumed and (frozen := [name for name, own in model.named_parameters() if not own.requires_grad]):
        raise DataError(
            what="A part of the model is frozen already, so that no line can be chosen.", where="fit(freeze='auto')",
            received=f"{len(frozen)} frozen parameters, such as {frozen[0]!r}",
            do="frostline.thaw(model, all=True) first; or leave freeze='auto' out and keep this freeze.",
        )  # fmt: skip
    if is_resumed and resume is not None:
        best = recorded_settings(resume).get(CHOSEN)
    else:
        with ExitStack() as stack:
            store = cache_of(cache, out) if cache is not False else FeatureCache(
                stack.enter_context(tempfile.TemporaryDirectory())
            )  # fmt: skip
            once = Views(train.dataset, 1) if isinstance(train, Views) else train  # lines are compared on samples
            report = choose_depth(model.to(device), once, cache=store, epochs=epochs, batch_size=batch_size,
                                  num_workers=num_workers, seed=seed, progress=progress)  # fmt: skip
        best, line = report.best, "nothing is frozen" if report.best is None else f"frozen through {report.best!r}"
        sys.stderr.write(f"freeze='auto': {line}: {report.reason}\n{report.advice}\n")
    has_layers = moves is not None and (not moves.is_by_rule or moves.layers is not None)
    return best, moves if best is not None or has_layers else None
