"""What `choose_depth` and `rank_models` return: tables, advice, pictures. No torch in here."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

_WIDTH = 110  # of a printed report; columns that do not fit are left out, and are in the JSON
EVERYTHING = "(train everything)"


@dataclass(frozen=True)
class DepthRow:
    """One line at which the model could be frozen.

    Attributes:
        through: What `freeze(through=)` takes; None where nothing is frozen, whose scores are those of the inputs.
        probe: Score of a cross-validated linear probe on the features at this line, None without any.
        probe_error: Its standard error over bootstrap resamples of held-out predictions.
        knn: Score of the five nearest neighbours.
        logme: LogME, log evidence per sample.
        hscore: H-score; None for numbers.
        regularized_hscore: H-score with a shrunk covariance; None for numbers.
        effective_rank: In how many directions the features spread.
        num_trainable: Elements of the parameters above the line.
        bytes_per_sample: What a cache stores for each sample.
        epoch_s: Seconds of an epoch over all training data without a cache, estimated from a measured step.
        cached_epoch_s: The same with one.
        total_s: Seconds of the whole training with a cache, its filling included; without one for the bottom line.
        energy: Mean square of what the BatchNorm layers below this line are given, by their running statistics: 1 on
            the data of pretraining. None without such layers.
        why_not: Why the model cannot be frozen here; "" if it can.
        reachable: The best probe of this line and of all above it: what training from here can reach at least, since
            layers that train may stay as they are. It ranks lines more as fine-tuning does than `probe`. None without
            any.
    """

    through: str | None
    probe: float | None = None
    probe_error: float | None = None
    knn: float | None = None
    logme: float | None = None
    hscore: float | None = None
    regularized_hscore: float | None = None
    effective_rank: float | None = None
    num_trainable: int = 0
    bytes_per_sample: int = 0
    epoch_s: float | None = None
    cached_epoch_s: float | None = None
    total_s: float | None = None
    energy: float | None = None
    why_not: str = ""
    reachable: float | None = None

    @property
    def name(self) -> str:
        """The layer, or that everything trains."""
        return EVERYTHING if self.through is None else self.through


@dataclass(frozen=True, repr=False)
class DepthReport:
    """How many layers to reuse, and what it rests on; `print` it.

    Attributes:
        best: The layer to freeze through: the deepest line whose probe is within one standard error of the best one.
            None where training everything is the better advice; `reason` says why.
        table: One row per line, from the bottom (everything trains) to the top (only the output layer trains).
        advice: What to do, with the numbers it rests on, in one paragraph.
        reason: Why this line was chosen, or none.
        metric: What probe and neighbours score: `accuracy`, `balanced accuracy`, `mean F1` or `R2`.
        baseline: What a constant prediction scores.
        samples: Samples on which the lines were scored.
        epochs: Epochs of the training whose time `total_s` is.
        notes: What was left out or could not be measured.
    """

    best: str | None
    table: tuple[DepthRow, ...]
    advice: str
    reason: str
    metric: str
    baseline: float
    samples: int
    epochs: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All fields as one JSON object; numbers that are not finite are null."""
        return json.dumps(_plain(asdict(self)), indent=1)

    def svg(self) -> str:
        """The probe's score by line, with two standard errors, as an SVG picture."""
        return _picture(self)

    def __str__(self) -> str:
        rows = [_cells(row, self.best is not None and row.through == self.best) for row in self.table]
        header = ("", "freeze through", self.metric, "reach", "5-NN", "LogME", "H-score", "rank", "trainable", "stored",
                  "epoch", "cached", f"{self.epochs} epochs")  # fmt: skip
        why = [f"{row.name}: {row.why_not}" for row in self.table if row.why_not]
        lines = [_table([header, *rows]), "", *_wrapped(self.advice)]
        lines += [line for text in (*why, *self.notes) for line in _wrapped(f"note: {text}")]
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True)
class RankedModel:
    """One model of a ranking.

    Attributes:
        name: What it was called by.
        score: The probe's score at its best line.
        low: Lower end of the 95% interval of `score`, by bootstrap.
        high: Upper end.
        line: The line of that score; None is the inputs.
        behind: By how much it is behind the first, with the 95% interval of that difference on the same samples.
        is_tied: True if that interval holds 0: it cannot be told apart from the first.
        report: What `choose_depth` says of it.
    """

    name: str
    score: float
    low: float
    high: float
    line: str | None
    behind: tuple[float, float, float]
    is_tied: bool
    report: DepthReport


@dataclass(frozen=True, repr=False)
class ModelRanking:
    """Which pretrained model to start from; `print` it.

    Attributes:
        best: Name of the first model; None where it cannot be told apart from another one.
        table: The models, the best first.
        advice: What to do, in one paragraph.
        metric: What is scored.
        samples: Samples on which the models were scored.
    """

    best: str | None
    table: tuple[RankedModel, ...]
    advice: str
    metric: str
    samples: int

    def to_json(self) -> str:
        """All fields as one JSON object."""
        return json.dumps(_plain(asdict(self)), indent=1)

    def __str__(self) -> str:
        rows = [
            (one.name, f"{one.score:.3f}", f"{one.low:.3f} to {one.high:.3f}", one.line or "(inputs)",
             f"{one.behind[0]:.3f} ({one.behind[1]:.3f} to {one.behind[2]:.3f})" if at else "",
             "cannot be told apart" if at and one.is_tied else "")
            for at, one in enumerate(self.table)
        ]  # fmt: skip
        header = ("model", self.metric, "95% interval", "best line", "behind the first", "")
        return "\n".join([_table([header, *rows]), "", *_wrapped(self.advice)])

    __repr__ = __str__


def _cells(row: DepthRow, is_best: bool) -> tuple[str, ...]:
    probe = "" if row.probe is None else f"{row.probe:.3f} ± {row.probe_error or 0:.3f}"
    rank = "" if row.effective_rank is None else f"{row.effective_rank:.0f}"
    return ("->" if is_best else "", row.name + (" *" if row.why_not else ""), probe, _number(row.reachable),
            _number(row.knn), _number(row.logme), _number(row.regularized_hscore), rank, _count(row.num_trainable),
            _size(row.bytes_per_sample) if row.through else "", seconds(row.epoch_s), seconds(row.cached_epoch_s),
            seconds(row.total_s))  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _count(value: int) -> str:
    return f"{value / 1e6:.1f} M" if value >= 1e5 else f"{value:,}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} KB"


def seconds(value: float | None) -> str:
    """Seconds, minutes or hours, with two or three digits."""
    if value is None:
        return ""
    for unit, length in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if value >= 2 * length:
            return f"{value / length:.1f} {unit}" if value < 100 * length else f"{value / length:.0f} {unit}"
    return f"{value:.2f} s"


def _table(rows: list[tuple[str, ...]]) -> str:
    """Aligned columns; those that are empty, and the last ones beyond the width, are left out."""
    used = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    widths = {at: max(len(row[at]) for row in rows) for at in used}
    while sum(widths.values()) + 2 * len(widths) > _WIDTH and len(widths) > 3:
        widths.pop(max(at for at in widths if at < max(widths)))
    lines = ["  ".join(row[at].ljust(width) for at, width in widths.items()).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths.values()), *lines[1:]])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_HEIGHT, _STEP, _LEFT, _TOP = 220, 64, 56, 24


def _picture(report: DepthReport) -> str:
    rows = [row for row in report.table if row.probe is not None]
    errors = [row.probe_error or 0.0 for row in rows]
    values = [row.probe or 0.0 for row in rows]
    low = min([report.baseline, *(v - 2 * e for v, e in zip(values, errors, strict=True))])
    high = max([report.baseline, *(v + 2 * e for v, e in zip(values, errors, strict=True))])
    scale = _HEIGHT / ((high - low) or 1.0)

    def y(value: float) -> float:
        return round(_TOP + (high - value) * scale, 1)

    width = _LEFT + _STEP * max(1, len(rows)) + 20
    right, base = width - 20, y(report.baseline)
    parts = [f'<line x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}" stroke="#999" stroke-dasharray="4 3"/>',
             f'<text x="{right}" y="{base - 4}" text-anchor="end">constant prediction</text>']  # fmt: skip
    parts += [f'<text x="{_LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:.2f}</text>'
              for value in (low, (low + high) / 2, high)]  # fmt: skip
    places = [_LEFT + _STEP * at + _STEP // 2 for at in range(len(rows))]
    parts.append('<polyline fill="none" stroke="#1f77b4" stroke-width="1.5" points="'
                 + " ".join(f"{x},{y(v)}" for x, v in zip(places, values, strict=True)) + '"/>')  # fmt: skip
    for x, row, value, error in zip(places, rows, values, errors, strict=True):
        is_best = report.best is not None and row.through == report.best
        colour = "#d62728" if is_best else "#1f77b4"
        parts.append(f'<line x1="{x}" x2="{x}" y1="{y(value - 2 * error)}" y2="{y(value + 2 * error)}" '
                     f'stroke="{colour}"/><circle cx="{x}" cy="{y(value)}" r="{5 if is_best else 3}" '
                     f'fill="{colour}"/>')  # fmt: skip
        below = _TOP + _HEIGHT + 14
        parts.append(f'<text x="{x}" y="{below}" text-anchor="end" transform="rotate(-35 {x} {below})">'
                     f'{escape("inputs" if row.through is None else row.name)}</text>')  # fmt: skip
    height = _TOP + _HEIGHT + 100
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
            f'font-size="11"><text x="{_LEFT}" y="14">{escape(report.metric)} of a linear probe, by line</text>'
            f'{"".join(parts)}</svg>')  # fmt: skip
