"""Numbers that several rules read from the evidence."""

from __future__ import annotations

import math
from itertools import takewhile
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.rules.records import Evidence, LayerSample, StepRecord


_BLOW_UP = 100.0  # of the very first loss; weights that start too large, or unscaled inputs, are in it already


def finite_records(evidence: Evidence) -> tuple[StepRecord, ...]:
    """The sampled steps before anything was not finite."""
    found: list[StepRecord] = []
    for record in evidence.records:
        if record.nonfinite is not None or not _is_finite(record.gradient_norm):
            break
        found.append(record)
    return tuple(found)


def of_layer(records: Sequence[StepRecord], layer: str, field: str) -> list[float]:
    """One number of one layer over the records that have it."""
    values: list[float] = []
    for record in records:
        for sample in record.layers:
            value = getattr(sample, field)
            if sample.layer == layer and value is not None and math.isfinite(value):
                values.append(value)
    return values


def typical(values: Sequence[float]) -> float | None:
    """The median, or None of nothing."""
    return median(values) if values else None


def samples(record: StepRecord) -> dict[str, LayerSample]:
    """The samples of a record by layer."""
    return {sample.layer: sample for sample in record.layers}


def weighted_layers(evidence: Evidence) -> list[str]:
    """Trainable layers that pass gradients on, in the order in which they ran."""
    return [layer.name for layer in evidence.layers if layer.has_weights and not layer.is_frozen]


def held_layers(evidence: Evidence, records: Sequence[StepRecord]) -> set[str]:
    """Layers that a factor holds back which started at zero, or near it.

    A zero matrix behind a layer lets no gradient through at the first step: it is exactly zero there.
    """
    held = {layer.name for layer in evidence.layers if layer.is_held}
    if not records or records[0].step > 0:
        return held
    return held | {sample.layer for sample in records[0].layers if sample.gradient_norm == 0}


def has_unseen_activations(evidence: Evidence) -> bool:
    """True if layers with weights follow each other without an activation module: a forward may call functions."""
    has_some = any(layer.kind == "activation" for layer in evidence.layers)
    return not has_some and sum(layer.has_weights for layer in evidence.layers) > 1


def early(records: Sequence[StepRecord], most: int = 5) -> Sequence[StepRecord]:
    """The first sampled steps: what initialisation made of the network."""
    return records[:most]


def loss_levels(evidence: Evidence) -> tuple[float, float, float, float] | None:
    """(first, best, last, noise) of the smoothed loss; None for fewer than 10 finite losses."""
    values = [loss for _, loss in evidence.losses if math.isfinite(loss)]
    if len(values) < 10:
        return None
    width = max(3, len(values) // 10)
    means = [sum(values[at : at + width]) / width for at in range(0, len(values) - width + 1, width)]
    tail = values[-width:]
    centre = sum(tail) / width
    noise = (sum((value - centre) ** 2 for value in tail) / width) ** 0.5
    return means[0], min(means), means[-1], noise


def blow_up(evidence: Evidence) -> tuple[float, float, float] | None:
    """(first, highest, last) loss of a run that rose a hundredfold over its first loss, and did not learn after it."""
    values = [loss for _, loss in evidence.losses if math.isfinite(loss)]
    if len(values) < 10 or evidence.losses[0][0] > 0:  # of a long run the first losses are not kept
        return None
    first, highest, tail = values[0], max(values), values[-max(3, len(values) // 10) :]
    last = sum(tail) / len(tail)
    return (first, highest, last) if 0 < _BLOW_UP * first < highest and last > 0.9 * first else None


def burst(evidence: Evidence) -> tuple[float, float, int] | None:
    """(first, highest loss, first step that is no number) of a run that rose a hundredfold and was NaN in ten steps."""
    values = list(takewhile(math.isfinite, (loss for _, loss in evidence.losses)))
    if not 0 < len(values) < min(10, len(evidence.losses)) or evidence.losses[0][0] > 0:
        return None
    first, highest = values[0], max(values)
    return (first, highest, evidence.losses[len(values)][0]) if 0 < _BLOW_UP * first < highest else None


def smoothed(evidence: Evidence, parts: int = 10) -> list[float]:
    """Mean loss of each tenth of the run."""
    values = [loss for _, loss in evidence.losses if math.isfinite(loss)]
    width = len(values) // parts
    return [sum(values[at * width : (at + 1) * width]) / width for at in range(parts)] if width else []


def _is_finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
