"""Which line to freeze through, and what to say about it: from scores and numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.core.selection_records import DepthRow

# Scores must be so many standard errors above a constant prediction for features to count as informative.
_INFORMATIVE = 2.0
# With the energy of BatchNorm inputs beyond a factor of two the data count as far from those of the pretraining.
_FAR = 2.0
_ROUGH = 0.02  # a standard error above which lines a few points apart cannot be separated


@dataclass(frozen=True)
class Choice:
    """The line to freeze through, or None; why; and what to do."""

    best: str | None
    reason: str
    advice: str


def choose(rows: Sequence[DepthRow], metric: str, baseline: float, samples: int) -> Choice:
    """Choose the deepest line whose probe is within one standard error of the best one.

    Args:
        rows: From the bottom to the top; the first stands for training everything, and has the score of the inputs:
            where no line reaches it, frozen layers lose what the task needs.
        metric: What was scored.
        baseline: What a constant prediction scores.
        samples: How many samples were scored.
    """
    lines = [row for row in rows if row.probe is not None and not row.why_not]
    peak = max(lines, key=lambda row: _score(row))
    error = peak.probe_error or 0.0
    limit = _score(peak) - error
    best = [row for row in lines if _score(row) >= limit][-1]
    scored = f"{metric} {_score(peak):.3f} ± {error:.3f} {_at(peak)}, of {samples:,} samples"
    if _score(peak) <= baseline + _INFORMATIVE * error:
        return _nothing_learnt(scored, baseline, error)
    if best.through is None:
        top = max(lines[1:], key=lambda row: _score(row))
        reason = (
            f"a linear probe on the inputs themselves reaches {metric} {_score(best):.3f} ± {error:.3f}, and that at "
            f"the best line, {top.name!r}, {_score(top):.3f}: pretrained layers lose more of what separates these "
            f"samples than they add"
        )
        advice = (
            f"Train everything, from the pretrained weights on, at a lower learning rate than the new output layer: "
            f"{reason}. The linear model on the inputs is the baseline to beat: where training everything stays below "
            f"it, there are too few samples for this network, or it is the wrong one to start from.{_distance(top)}"
        )
        return Choice(None, reason, advice)
    reason = f"it is the deepest line within one standard error of the best score ({scored})"
    frozen = [row for row in lines if row.through is not None]
    return Choice(best.through, reason, _advice(frozen, best, peak, metric, limit) + _distance(best))


def _at(row: DepthRow) -> str:
    return "of the inputs" if row.through is None else f"at {row.name!r}"


def _nothing_learnt(scored: str, baseline: float, error: float) -> Choice:
    reason = f"no line scores clearly above a constant prediction ({baseline:.3f}): the best has {scored}"
    if error > _ROUGH:
        return Choice(
            None, reason, f"Too few samples for a choice: {reason}. Collect more samples, or pass a larger samples=."
        )
    return Choice(
        None, reason, f"Train everything, or start from another model: {reason}. Check the targets and how inputs are "
        f"prepared first.",
    )  # fmt: skip


def _advice(lines: Sequence[DepthRow], best: DepthRow, peak: DepthRow, metric: str, limit: float) -> str:
    at, error = lines.index(best), peak.probe_error or 0.0
    numbers = f"its probe has {metric} {_score(best):.3f}"
    if best is not peak:
        numbers += f", within one standard error of the best ({_score(peak):.3f} ± {error:.3f} {_at(peak)})"
    if best is lines[-1]:
        text = f"Replace the output layer only, and freeze everything below it (through {best.name!r}): {numbers}."
    else:
        drop = _score(best) - _score(lines[-1])
        text = (
            f"Freeze through {best.name!r} and train what is above it: {numbers}. Layers above are made for the data "
            f"of the pretraining: at {lines[-1].name!r} the score is {drop:.3f} lower."
        )
    tied = [row for row in lines[:at] if _score(row) >= limit]
    if len(tied) == at and at > 0:
        which = "All lines" if best is lines[-1] else "This line and all below it"
        text += f" {which} are within one standard error of each other: {error:.3f} is too coarse to separate them."
    elif error > _ROUGH and tied:
        text += f" Too few samples to separate this line from {', '.join(repr(row.name) for row in tied)}."
    elif not tied and at > 0 and best is lines[-1]:
        text += f" Features still improve up to there: {lines[-2].name!r} has {_score(lines[-2]):.3f}."
    if tied:
        text += (
            f" If accuracy counts more than time, thaw further while it trains (thaw='plateau'), or compare with a "
            f"freeze through {tied[0].name!r} only: a probe does not see what layers gain by training."
        )
    return text + _cost(best)


def _cost(best: DepthRow) -> str:
    if best.epoch_s is None or best.cached_epoch_s is None or best.cached_epoch_s >= best.epoch_s:
        return ""
    return f" An epoch takes about {best.epoch_s / best.cached_epoch_s:.1f} times as long without a cache as with one."


def _distance(row: DepthRow) -> str:
    """How far the data lie from those of the pretraining, measured at BatchNorm layers."""
    if row.energy is None:
        return ""
    energy = row.energy
    energy_text = f"BatchNorm layers below get inputs of {energy:.2f} times the mean square of the pretraining data"
    if not math.isfinite(energy) or not 1 / _FAR <= energy <= _FAR:
        return (
            f" These data are far from those of the pretraining ({energy_text}): compare with a lower line, and check "
            f"that inputs are normalised as in the pretraining."
        )
    return (
        f" Their statistics do not set these data apart from those of the pretraining ({energy_text}); other "
        f"classes or a rotation do not show there."
    )


def _score(row: DepthRow) -> float:
    assert row.probe is not None
    return row.probe
