"""Other learning rates, by the size of the steps that were seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from frostline.diagnosis.experiments.actions import scale_rates
from frostline.diagnosis.experiments.treatments import Remedy
from frostline.diagnosis.rules.reading import finite_records, of_layer, typical

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient
    from frostline.diagnosis.rules.records import Evidence, StepRecord

_MILD = 0.1  # the smallest change of a learning rate
_GENTLE = 0.3  # half of that: where a tenth leaves too few steps to show what it can do
_USUAL_STEP = 5e-3  # of a layer's weights
_FAST_STEP = 1e-2  # nobody needs faster ones
_WARMING = 2.0  # times the first steps; Adam's steps are as large as the rate, whatever the gradients
_EARLY = 3  # sampled steps, before weights have grown with the steps


def rate_remedies(evidence: Evidence, *, is_stuck: bool = False) -> tuple[list[Remedy], ...]:
    """Other learning rates: (slower ones, faster ones, one that is only a little slower); mild ones first.

    The strongest of the slower, and the last but one of the faster, is the one at which a step would change the layer
    that moves most by five thousandths of its weights: between what is usual, 1e-3, and what is fast, 1e-2. Gradients
    become smaller with the loss, so one faster than that is worth a trial if that one helps. In a network that learns
    nothing the slower ones go on to a thousandth: where all outputs have become one, steps say nothing about the rate.

    Args:
        evidence: What was seen of the training.
        is_stuck: True if the network learns nothing.
    """
    lr = evidence.optimizer.lr
    if lr is None:
        return ()
    records = finite_records(evidence)
    early, usual = _step_size(records[:_EARLY]), _step_size(records[1:] or records)
    slower = min(_MILD, max(_USUAL_STEP / early, _MILD**4)) if early else _MILD**2
    faster = max(1 / _MILD, min(_USUAL_STEP / usual, _MILD**-5)) if usual else _MILD**-2
    down, up = _between(_MILD, slower), _between(1 / _MILD, faster)
    up.append(up[-1] / _MILD)
    if is_stuck:
        down += [factor for factor in (_MILD**2, _MILD**3) if factor < _MILD * down[-1] * 5]
    if usual and usual > _FAST_STEP:
        up = []
    return (
        [_rate(factor, "FL401", f"slower {at}", lr) for at, factor in enumerate(down)],
        [_rate(factor, "FL402", f"faster {at}", lr) for at, factor in enumerate(up)],
        [_rate(_GENTLE, "FL401", "slower, a little", lr)],
    )


def next_lower(remedy: Remedy, evidence: Evidence) -> Remedy | None:
    """A third of the rate with which a slower training has won; None if it is of something else."""
    lr = evidence.optimizer.lr
    if lr is None or remedy.rate >= 1:
        return None
    factor = float(f"{_GENTLE * remedy.rate:.1g}")
    return _rate(factor, "FL401", f"slower, times {factor:.1g}", lr)


def is_rising(evidence: Evidence) -> bool:
    """True if steps get larger while nothing else makes them so: the optimizer warms up, or a schedule drives it."""
    records = finite_records(evidence)[1:]
    third = len(records) // 3
    first, last = _step_size(records[:third]) or math.inf, _step_size(records[-third:]) or 0.0
    return evidence.optimizer.is_scheduled or (evidence.optimizer.is_scale_free and last > _WARMING * first)


def _rate(factor: float, code: str, key: str, lr: float) -> Remedy:
    shown = f"{factor:.2g}" if factor < 1 else f"{factor:,.0f}"
    name = f"learning rate times {shown}"
    advice = f"multiply the learning rate by {shown}: {lr:.2g} becomes {lr * factor:.2g}."
    return Remedy(name, ("learning_rate",), _times(factor), needs_symptom=False, is_structural=False,
                  code=code, key=key, advice=advice, rate=factor)  # fmt: skip


def _between(mild: float, strong: float) -> list[float]:
    """From the mild factor to the strong one by steps of ten to thirty, rounded to one digit."""
    count = max(1, round(abs(math.log10(strong / mild)) / 1.25)) if abs(math.log10(strong / mild)) > 0.3 else 0
    found = [mild * (strong / mild) ** (at / count) for at in range(1, count + 1)]
    return [mild, *(float(f"{factor:.1g}") for factor in found)]


def _step_size(records: Sequence[StepRecord]) -> float | None:
    """The share of its weights that a step changes of the layer that moves most."""
    names = {sample.layer for record in records for sample in record.layers}
    ratios = [typical(of_layer(records, name, "update_ratio")) for name in names]
    return max((ratio for ratio in ratios if ratio), default=None)


def _times(factor: float) -> Callable[[Patient, Sequence[Batch]], None]:
    return lambda patient, _: scale_rates(patient.optimizer, factor)
