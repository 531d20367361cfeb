"""The search for the first rows of the data that are not finite."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.diagnosis.rules.records import Evidence, StepRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.batches import Batch


def with_nonfinite_rows(evidence: Evidence, data: Sequence[Batch]) -> Evidence:
    """The first batch whose inputs or targets are not finite, looked up in the data: it may lie between samples.

    Only where nothing else was not finite before it. NaN in a target may mark what the loss ignores: it
    counts in the first such batch alone, and there only if the loss was not finite for the first time.
    """
    has_masks = sum(batches.are_finite(inputs) for inputs, _ in data) < len(data) / 2
    if has_masks and not any(batches.is_broken(inputs) for inputs, _ in data):
        return evidence  # of -inf, in most batches
    bad = _first_nonfinite_loss(evidence)
    first = min((record.step for record in evidence.records if record.nonfinite is not None), default=math.inf)
    has_marks = False
    for step, (inputs, target) in enumerate(data):
        if step > min(bad, first):  # up to here no batch was left out: losses and records are numbered as batches are
            return evidence
        in_inputs, in_target = _nonfinite_rows(inputs), _nonfinite_rows(target)
        is_first_target = in_target is not None and step == bad and not has_marks
        has_marks = has_marks or in_target is not None
        rows = in_inputs if in_inputs is not None else in_target
        if rows is not None and (in_inputs is not None or is_first_target):
            records = [r for r in evidence.records if r.step < step]
            record = StepRecord(step, None, None, (), "input" if in_inputs is not None else "target", tuple(rows[:16]))
            return replace(evidence, records=(*records, record))
    return evidence


def _first_nonfinite_loss(evidence: Evidence) -> float:
    """The batch of the first loss that is not finite, of those that were used: a step that a clip leaves out is one."""
    start = evidence.losses[0][0] if evidence.losses else 0
    return next((at for at, (_, loss) in enumerate(evidence.losses, start) if not math.isfinite(loss)), math.inf)


def _nonfinite_rows(part: Any) -> list[int] | None:
    """Rows that are not finite, of the first tensor that has some; None if all are."""
    for tensor in () if batches.are_finite(part) else batches.leaves(part).values():
        if tensor.is_floating_point() and tensor.dim() and not bool(torch.isfinite(tensor).all()):
            return batches.rows_where(~torch.isfinite(tensor))
    return None
