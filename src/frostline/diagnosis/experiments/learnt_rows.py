"""What a network makes of the rows that it was trained on, and of others; and how often these rows come."""

from __future__ import annotations

from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any

from frostline.core import inputs as batches
from frostline.diagnosis.experiments.batches import row_keys
from frostline.diagnosis.experiments.score import Score, score
from frostline.diagnosis.rules.row_records import HeartFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from frostline.diagnosis.experiments.batches import Batch

_MOST = 12  # batches that it is scored on


def facts_of_heart(
    model: nn.Module, data: Sequence[Batch], held_out: Score, loss_fn: Callable[[Any, Any], Tensor]
) -> HeartFacts:  # fmt: skip
    """How well it does on rows that it was trained on, beside others.

    Args:
        model: After training.
        data: What it was trained on.
        held_out: Its score on other rows.
        loss_fn: callable(output, target) -> scalar.
    """
    own = score(model, data[:: max(1, len(data) // _MOST)][:_MOST], loss_fn)
    keys = [tuple(row_keys(inputs)) for inputs, _ in data]
    counts: dict[int, int] = {}
    for key in (one for batch in keys for one in batch):
        counts[key] = counts.get(key, 0) + 1
    runs = [len(list(several)) for _, several in groupby(sorted(batch) for batch in keys)]
    are_measured = any(one.is_floating_point() for one in batches.leaves(data[0][0]).values())  # words are few
    return HeartFacts(
        own.share, held_out.share, own.loss, held_out.loss,
        rows=len(counts) if are_measured else 0, times=float(median(counts.values())),
        in_a_row=float(median(runs)) if len(runs) > 1 else 1.0,
    )  # fmt: skip
