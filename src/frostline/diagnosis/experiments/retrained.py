"""The same network, trained on other batches: twice as long, in a random order, on one batch again and again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, FrostlineError
from frostline.diagnosis.experiments.batches import finite_rows, held_out
from frostline.diagnosis.experiments.score import Score, score
from frostline.diagnosis.experiments.trial import train
from frostline.diagnosis.rules.wiring_records import ShuffleFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.examination import Examination

_BY_HEART, _HEART_SKILL = 120, 0.5  # steps on one batch, and the share of the baseline's loss that is saved by then
_BETTER, _SURE = 0.05, 2.0  # in score, and in standard errors, by which shuffled rows are clearly better


def is_learnt_by_heart(seen: Examination) -> bool | None:
    """Whether a copy brings the loss of one batch far below that of one answer for all; None if that is not known.

    Args:
        seen: What was seen of the training.
    """
    batch = finite_rows(seen.data[:1])
    found = _score(seen, "one batch by heart", batch * _BY_HEART, batch, train_mode=True)
    return None if found is None or found.skill is None else found.skill > _HEART_SKILL


def facts_of_order(seen: Examination) -> ShuffleFacts | None:
    """What the same rows bring in a random order; None where they cannot change their batch, or there is no time.

    Rows of every batch are held out for this: of batches in an order, the last ones alone are of one kind.

    Args:
        seen: What was seen of the training.
    """
    rest, judged = held_out([*seen.data, *seen.judged], spread=True, divides=seen.divides)
    mixed = shuffled(rest)
    own = _score(seen, "the order of the rows", rest, judged) if mixed is not None else None
    after = _score(seen, "the same rows, shuffled", mixed, judged) if mixed is not None and own is not None else None
    if own is None or after is None:
        return None
    gain, error = after.gain_over(own)
    is_better = gain > max(_BETTER, _SURE * error) or not math.isfinite(own.loss)
    return ShuffleFacts(own.share, after.share, is_better)


def twice_the_steps(seen: Examination) -> Score | None:
    """The score after twice the steps; None if there is no time for them.

    Args:
        seen: What was seen of the training.
    """
    return _score(seen, "twice the steps", [*seen.data, *seen.data], seen.judged)


def shuffled(data: Sequence[Batch]) -> list[Batch] | None:
    """The same rows in batches of the same sizes, drawn at random; None where they cannot change their batch.

    Args:
        data: Batches of (inputs, target).
    """
    sizes = [batches.batch_size(inputs) for inputs, _ in data]
    tables: list[dict[str, Tensor]] = []
    for at in (0, 1):
        rows = [batches.leaves(batch[at]) for batch in data]
        kinds = {tuple((name, one.shape[1:], one.dtype) for name, one in row.items()) for row in rows}
        lengths = ({len(one) if one.dim() else 0 for one in row.values()} for row in rows)
        if len(kinds) > 1 or any(found != {size} for found, size in zip(lengths, sizes, strict=True)):
            return None
        tables.append({name: torch.cat([row[name] for row in rows]) for name in rows[0]})
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(0))
    found: list[Batch] = []
    for batch, chosen in zip(data, order.split(sizes), strict=True):
        parts = [_filled(part, table, chosen) for part, table in zip(batch, tables, strict=True)]
        found.append((parts[0], parts[1]))
    return found


def _filled(part: Any, table: dict[str, Tensor], chosen: Tensor) -> Any:
    """The same structure with these rows of a table in it."""
    names = {id(one): name for name, one in batches.leaves(part).items()}
    return batches.map_tensors(part, lambda one: table[names[id(one)]][chosen.to(one.device)])


def _score(
    seen: Examination, name: str, data: Sequence[Batch], judged: Sequence[Batch], *, train_mode: bool = False
) -> Score | None:  # fmt: skip
    """Of a copy that was trained on these batches; None where that cannot be tried."""
    if not seen.budget.has_room(name, max(1, round(len(data) / max(1, len(seen.data))))):
        return None
    twin = seen.patient.copy()
    try:
        with seen.budget.training():
            train(twin, data, seen.loss_fn, seed=seen.seed, measures=False)
        return score(twin.model, judged, seen.loss_fn, train_mode=train_mode)
    except KeyboardInterrupt:
        seen.budget.interrupt()
    except (FrostlineError, *FOREIGN):
        pass
    return None
