"""The frost line of `fit(freeze="auto")`: chosen by `choose_depth` on the training data, and printed."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.caching import CachedDataset, FeatureCache, Views
from frostline.core.errors import DataError
from frostline.recipes.choose_depth import ScoredRows, measured
from frostline.recipes.line_steps import usable_lines
from frostline.recipes.phases import MovingLine
from frostline.recipes.run_cache import cache_of
from frostline.recipes.schedules import ThawSchedule
from frostline.training import has_checkpoint, recorded_settings
from frostline.transfer import freeze, passing_freeze, thaw

if TYPE_CHECKING:
    from torch import nn

    from frostline.recipes.schedules import FreezeSchedule
    from frostline.recipes.training_setup import TrainingSetup

CHOSEN = "frozen through"  # the setting of a run that names the line
_SAMPLES = 2000  # as `choose_depth` has it


def chosen_line(
    through: str | None, moves: ThawSchedule | FreezeSchedule | None, setup: TrainingSetup, resume: Path | None,
    epochs: int,
) -> tuple[str | None, ThawSchedule | FreezeSchedule | None]:  # fmt: skip
    """(the layer through which to freeze, the schedule that moves the line from there).

    Of "auto" the layer is the best one for these data, or None to train everything. Thaws of layers that train from
    the beginning, and a plateau that has nothing to thaw, are left out of the schedule. A run that is resumed keeps
    the line that it began with. What can be refused without scores is refused before they are computed.

    Raises:
        DataError: If `choose_depth` cannot score the data, these are features already, or the schedule fits no line.
    """
    if through != "auto":
        return through, moves
    if isinstance(setup.train, CachedDataset):
        raise DataError(
            what="A line is chosen on the data itself, not on features of another line.", where="fit(freeze='auto')",
            received="a CachedDataset", do="pass the whole model and the dataset.",
        )  # fmt: skip
    if resume is not None and has_checkpoint(resume):
        best = _recorded(resume)
    else:
        _check(setup, moves, epochs)
        best = _best(setup, epochs)
    return best, _below(setup.model, best, moves) if isinstance(moves, ThawSchedule) else moves


def _recorded(run: Path) -> str | None:
    """The line that a run has chosen."""
    settings = recorded_settings(run)
    if CHOSEN not in settings:
        raise DataError(
            what="The run to be resumed did not choose its frost line.", where="fit(freeze='auto', resume=...)",
            received=f"a run in {run} that began without freeze='auto'",
            do="pass the freeze= that the run began with, or none if the model was frozen before; or start anew "
            "without resume=.",
        )  # fmt: skip
    return settings[CHOSEN]


def _check(setup: TrainingSetup, moves: ThawSchedule | FreezeSchedule | None, epochs: int) -> None:
    """Raise what needs no scores: a model that is frozen already, outputs that do not fit, a schedule that never does.

    A schedule fits some line only if it fits the highest one, above which the output layer alone trains.
    """
    model = setup.model
    if frozen := [name for name, own in model.named_parameters() if not own.requires_grad]:
        raise DataError(
            what="A part of the model is frozen already, so that no line can be chosen.", where="fit(freeze='auto')",
            received=f"{len(frozen)} frozen parameters, such as {frozen[0]!r}",
            do="frostline.thaw(model, all=True) first; or leave freeze='auto' out and keep this freeze.",
        )  # fmt: skip
    own = replace(setup)  # its batches are those of the model before it has the precision of the run
    own.first.check_dataset(model, own.plain, own.plain_val)
    if moves is None:
        return
    lines = usable_lines(model, setup.few_inputs())
    with passing_freeze(model):
        if lines:
            freeze(model, lines[-1])
        MovingLine(model, moves, epochs=epochs, has_val=setup.val is not None, inputs=setup.few_inputs)


def _best(setup: TrainingSetup, epochs: int) -> str | None:
    """The line that scores best; it is printed with its reason."""
    with ExitStack() as stack:
        store = cache_of(setup.cache, setup.out) if setup.cache is not False else FeatureCache(
            stack.enter_context(tempfile.TemporaryDirectory())
        )  # fmt: skip
        is_viewed = isinstance(setup.train, Views)  # no fold is judged on other views of samples that it was fitted on
        once = Views(setup.train.dataset, 1) if is_viewed else setup.train
        made = ScoredRows(setup.train.count if is_viewed else None, setup.collate_fn, setup.storage, setup.frozen_pass)
        report = measured(setup.model, once, None, _SAMPLES, store, epochs, setup.batch_size,
                          setup.num_workers, setup.seed, setup.progress, loss=setup.loss, made=made).report  # fmt: skip
    line = "nothing is frozen" if report.best is None else f"frozen through {report.best!r}"
    sys.stderr.write(f"freeze='auto': {line}: {report.reason}\n{report.advice}\n")
    return report.best


def _below(model: nn.Module, best: str | None, schedule: ThawSchedule) -> ThawSchedule | None:
    """The schedule without thaws that change nothing at this line; None if no thaw is left."""
    if schedule.is_by_rule and schedule.layers is None:
        return schedule if best is not None else None
    with passing_freeze(model):
        if best is not None:
            freeze(model, best)
        kept = [move for move in schedule.moves if thaw(model, move[1]).parameters]
    if len(kept) == len(schedule.moves):
        return schedule
    left = [str(layer or "the whole model") for epoch, layer in schedule.moves if (epoch, layer) not in kept]
    sys.stderr.write(f"freeze='auto': thaws that are left out, for these layers train already: {', '.join(left)}\n")
    if not kept:
        return None
    if schedule.is_by_rule:
        return replace(schedule, layers=[layer for _, layer in kept])
    return replace(schedule, at={epoch: layer for epoch, layer in kept if epoch is not None})
