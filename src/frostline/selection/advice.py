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

_FINE = 0.05  # beyond this standard error, a perfect score of a few samples shows too little


@dataclass(frozen=True)
class Choice:
    """The line to freeze through, or None; why; and what to do."""

    best: str | None
    reason: str
    advice: str


def choose(rows: Sequence[DepthRow], metric: str, baseline: float, samples: int) -> Choice:
    """Choose the deepest line that reaches as much as any, within one standard error of the difference.

    Where a probe makes hardly an error, the deepest such line is chosen.

    Args:
        rows: From the bottom to the top; the first stands for training everything, and has the scores of the inputs.
        metric: What probes score.
        baseline: What a constant prediction scores by it.
        samples: How many samples were scored.
    """
    lines = [row for row in rows if row.probe is not None and row.reachable is not None and not row.why_not]
    probed = max(lines, key=lambda row: row.probe or 0.0)
    error = probed.probe_error or 0.0
    if (probed.probe or 0.0) <= baseline + _INFORMATIVE * error:
        scored = f"{metric} {probed.probe:.3f} ± {error:.3f} {_at(probed)}, of {samples:,} samples"
        return _nothing_learnt(scored, baseline, error)
    faultless = [row for row in lines if row.through is not None and _is_faultless(row)]
    if faultless:  # no layer has anything to gain, and R2 falls where features saturate
        return _nothing_to_gain(faultless[-1], lines[-1], metric, samples)
    peak = max(lines, key=_reach)
    best = [row for row in lines if _is_tied(row, peak)][-1]
    if best.through is None:
        return _everything(lines, probed, metric, samples)
    reason = (
        f"it is the deepest line whose features, with those above, explain as much as any, within one standard error: "
        f"R2 {_reach(best):.3f}, of {samples:,} samples"
    )
    frozen = [row for row in lines if row.through is not None]
    return Choice(best.through, reason, _advice(frozen, best, peak, probed, metric) + _distance(best))


def _is_faultless(row: DepthRow) -> bool:
    """True if the probe's score is within one standard error of the best that there is."""
    error = row.probe_error or 0.0
    return (row.probe or 0.0) + error >= 1.0 and error <= _FINE


def _nothing_to_gain(best: DepthRow, top: DepthRow, metric: str, samples: int) -> Choice:
    scored = (
        f"a linear probe there has {metric} {best.probe:.3f} ± {best.probe_error or 0.0:.3f}, of {samples:,} samples"
    )
    reason = f"it is the deepest line at which hardly an error is left: {scored}"
    if best is top:
        advice = f"Replace the output layer only, and freeze everything below it (through {best.name!r}): {scored}."
    else:
        advice = f"Freeze through {best.name!r} and train what is above it: {scored}."
    return Choice(best.through, reason, f"{advice} Lower layers have nothing to gain.{_cost(best)}{_distance(best)}")


def _is_tied(row: DepthRow, peak: DepthRow) -> bool:
    return _reach(peak) - _reach(row) <= (row.reachable_error or 0.0)


def _at(row: DepthRow) -> str:
    return "of the inputs" if row.through is None else f"at {row.name!r}"


def _everything(lines: Sequence[DepthRow], probed: DepthRow, metric: str, samples: int) -> Choice:
    bottom, top = lines[0], max(lines[1:], key=_reach)
    reason = (
        f"inputs and features together explain {_reach(bottom):.3f} of the targets' variance (R2), those from the best "
        f"line on, {top.name!r}, {_reach(top):.3f} ({_behind(top, bottom)} less), of {samples:,} samples: layers that "
        f"are frozen lose some of what the targets depend on"
    )
    advice = (
        f"Train everything, from the pretrained weights on, at a lower learning rate than the new output layer: "
        f"{reason}."
    )
    if probed is bottom:
        advice += (
            f" A linear model on the inputs has {metric} {bottom.probe:.3f}, more than on the features of any line: it "
            f"is the baseline to beat. Where training everything stays below it, there are too few samples for this "
            f"network, or it is the wrong one to start from."
        )
    return Choice(None, reason, advice + _distance(top, is_frozen=False))


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


def _advice(lines: Sequence[DepthRow], best: DepthRow, peak: DepthRow, probed: DepthRow, metric: str) -> str:
    at, top = lines.index(best), lines[-1]
    numbers = f"features from there on explain {_reach(best):.3f} of the targets' variance (R2)"
    if best is not peak:
        numbers += f", within one standard error of the most ({_reach(peak):.3f} {_with(peak)})"
    if best is top:
        text = f"Replace the output layer only, and freeze everything below it (through {best.name!r}): {numbers}."
    else:
        text = (
            f"Freeze through {best.name!r} and train what is above it: {numbers}. Layers above are made for the data "
            f"of the pretraining: their outputs alone explain less ({_reach(lines[at + 1]):.3f} at "
            f"{lines[at + 1].name!r}"
        )
        text += f", {_reach(top):.3f} with the output layer only)." if lines[at + 1] is not top else ")."
    tied = [row for row in lines[:at] if _is_tied(row, peak)]
    if len(tied) == at > 0:
        which = "All lines" if best is top else "This line and all below it"
        text += f" {which} are within one standard error of each other: these samples do not separate them."
    elif not tied and at > 0 and best is top:
        text += f" Features still add something up to there: {lines[-2].name!r} has {_reach(lines[-2]):.3f}."
    if tied:
        text += (
            f" If accuracy counts more than time, thaw further while it trains (thaw='plateau'), or compare with a "
            f"freeze through {tied[0].name!r} only."
        )
    if (probed.probe_error or 0.0) > _ROUGH:
        text += (
            f" These are few samples: a linear probe has {metric} {probed.probe:.3f} ± {probed.probe_error:.3f} "
            f"{_at(probed)}, so that lines a few points apart cannot be separated."
        )
    return text + _cost(best)


def _with(row: DepthRow) -> str:
    return "with the inputs" if row.through is None else f"at {row.name!r}"


def _behind(row: DepthRow, peak: DepthRow) -> str:
    return f"{_reach(peak) - _reach(row):.3f} ± {row.reachable_error or 0.0:.3f}"


def _cost(best: DepthRow) -> str:
    if best.epoch_s is None or best.cached_epoch_s is None or best.cached_epoch_s >= best.epoch_s:
        return ""
    return f" An epoch takes about {best.epoch_s / best.cached_epoch_s:.1f} times as long without a cache as with one."


def _distance(row: DepthRow, *, is_frozen: bool = True) -> str:
    """How far the data lie from those of the pretraining, measured at BatchNorm layers below a line."""
    if row.energy is None:
        return ""
    energy = row.energy
    energy_text = f"BatchNorm layers below get inputs of {energy:.2f} times the mean square of the pretraining data"
    if not math.isfinite(energy) or not 1 / _FAR <= energy <= _FAR:
        lower = "compare with a lower line, and " if is_frozen else ""
        return (
            f" These data are far from those of the pretraining ({energy_text}): {lower}check that inputs are "
            f"normalised as in the pretraining."
        )
    return (
        f" By the statistics of BatchNorm, these data are not far from those of the pretraining ({energy_text}); "
        f"other classes or a rotation do not show there."
    )


def _reach(row: DepthRow) -> float:
    assert row.reachable is not None
    return row.reachable
