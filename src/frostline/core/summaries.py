"""Records as text, JSON and pictures: diagnoses, healings, trainings, depth reports, rankings and sweeps."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any, cast

from frostline.core.units import seconds_text, size_text

if TYPE_CHECKING:
    from frostline.core.records import Diagnosis, Finding, FitResult, Healing
    from frostline.core.selection_records import DepthReport, DepthRow, ModelRanking, SweepResult

_NOTHING_TRAINS = frozenset({"FL404", "FL405", "FL406"})  # nothing is learnt; what does not train
_MOST = 6  # other layers that are named
_WIDTH = 110  # of a printed table; columns that do not fit are left out, and are in the JSON
_HEIGHT, _STEP, _LEFT, _TOP = 220, 64, 56, 24  # of a picture, in pixels


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """Every finding with its evidence and advice, what could not be evaluated, and the conclusion."""
    judged = sum(finding.outcome == "passed" for finding in diagnosis.passed)
    if not diagnosis.findings and not judged:
        silent = diagnosis.not_judged or diagnosis.passed
        return "\n".join(["Nothing could be judged:", *dict.fromkeys(finding.why for finding in silent)])
    if not diagnosis.findings:
        return "\n".join([_no_symptoms(diagnosis, judged), *_left_open(diagnosis)])
    shown = [_finding_text(first, others) for first, *others in _groups(diagnosis)]
    return "\n".join([*shown, *_left_open(diagnosis), _conclusion(diagnosis)])


def healing_text(healing: Healing) -> str:
    """The course of a healing: symptoms, treatments with their numbers, the loss, symptoms that are left."""
    kept = [treatment for treatment in healing.treatments if treatment.kept]
    head = "No treatment was kept: the model was trained as it is."
    if kept and healing.accepted:
        head = f"Healed by: {'; '.join(treatment.name for treatment in kept)}."
    elif kept:
        head = "Not healed: a treatment was kept, but the model is not good at the end."
    lines = [head, *(f"  before:  {line}" for line in _symptoms(healing.before))]
    treated = {one.family for one in healing.treatments}
    left = [
        finding for finding in healing.before.findings if finding.outcome == "issue" and finding.family not in treated
    ]
    lines += [f"  do:      {advice}" for advice in dict.fromkeys(finding.advice for finding in left)]
    lines += [f"  tried:   {one.name} ({one.family}): {one.why}" for one in healing.treatments]
    lines += [f"  loss:    {healing.loss_before:.3g} before, {healing.loss_after:.3g} after, on held-out samples"]
    lines += [f"  after:   {line}" for line in _symptoms(healing.after)]
    return "\n".join([*lines, *([f"  verdict: {healing.verdict}"] if healing.verdict else [])])


def fit_text(result: FitResult) -> str:
    """The course of a training: epochs, loss, scores, cache, time, symptoms."""
    last, count = result.history[-1], len(result.history)
    scores = last.val_metrics or ({"validation metric": last.val_metric} if last.val_metric is not None else {})
    if last.val_loss is not None:
        scores = {"validation loss": last.val_loss, **scores}
    stopped = ", stopped early" if result.stopped_early else ""
    lines = [f"Trained {count} epoch{'s' if count != 1 else ''} in {result.timings.total_s:.1f} s{stopped}."]
    measured = [f"{name} {value:.4g}" for name, value in {"training loss": last.train_loss, **scores}.items()]
    lines.append(f"  last epoch: {', '.join(measured)}")
    if result.cache is not None:
        lines.append(f"  cache:      {result.cache.rows_text()}")
    lines += [f"  {phase}" for phase in result.phases if len(result.phases) > 1]
    if result.out is not None:
        lines.append(f"  files:      {result.out}")
    lines += [f"  finding:    {finding.headline}" for finding in result.findings]
    return "\n".join(lines)


def sweep_text(result: SweepResult) -> str:
    """The table of a sweep: a row for each head, best first."""
    names = list(dict.fromkeys(name for row in result.table for name in row.settings))
    rows = [
        (f"#{row.number}", *(_setting_text(row.settings.get(name)) for name in names), f"{row.score:.4f}",
         f"{row.val_loss:.4f}", f"{row.best_epoch}/{row.epochs}", row.outcome)
        for row in result.table
    ]  # fmt: skip
    heads = table(rows, ("head", *names, result.metric, "loss", "epoch", "outcome"))
    count = f"{len(result.table)} heads over {result.samples} rows, compared on {result.held_out}"
    return "\n".join([f"{count}, in {result.elapsed_s:.1f} s.", heads, *(f"note: {note}" for note in result.notes)])


def depth_text(report: DepthReport) -> str:
    """The table of a depth report, its advice and its notes, within the width of a terminal."""
    rows = [_cells(row, report.best is not None and row.through == report.best) for row in report.table]
    header = ("", "freeze through", "reach", report.metric, "5-NN", "LogME", "H-score", "rank", "trainable", "stored",
              "epoch", "cached", f"{report.epochs} epochs")  # fmt: skip
    why = [f"{row.name}: {row.why_not}" for row in report.table if row.why_not]
    lines = [table(rows, header, width=_WIDTH), "", *_wrapped(report.advice)]
    lines += [line for text in (*why, *report.notes) for line in _wrapped(f"note: {text}")]
    return "\n".join(lines)


def ranking_text(ranking: ModelRanking) -> str:
    """The table of a ranking of models, best first, and its advice."""
    rows = [
        (one.name, f"{one.score:.3f}", f"{one.low:.3f} to {one.high:.3f}", one.line or "(inputs)",
         f"{one.behind[0]:.3f} ({one.behind[1]:.3f} to {one.behind[2]:.3f})" if at else "",
         "cannot be separated" if at and one.is_tied else "")
        for at, one in enumerate(ranking.table)
    ]  # fmt: skip
    header = ("model", ranking.metric, "95% interval", "best line", "behind the first", "")
    return "\n".join([table(rows, header, width=_WIDTH), "", *_wrapped(ranking.advice)])


def depth_picture(report: DepthReport) -> str:
    """What each line reaches, with two standard errors of its difference from the best, as an SVG picture."""
    rows = [row for row in report.table if row.reachable is not None]
    errors = [row.reachable_error or 0.0 for row in rows]
    values = [row.reachable or 0.0 for row in rows]
    low = min([0.0, *(v - 2 * e for v, e in zip(values, errors, strict=True))])
    high = max([0.0, *(v + 2 * e for v, e in zip(values, errors, strict=True))])
    scale = _HEIGHT / ((high - low) or 1.0)

    def y(value: float) -> float:
        return round(_TOP + (high - value) * scale, 1)

    width = _LEFT + _STEP * max(1, len(rows)) + 20
    right, base = width - 20, y(0.0)
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
            f'font-size="11"><text x="{_LEFT}" y="14">R2 from features at a line and above it</text>'
            f'{"".join(parts)}</svg>')  # fmt: skip


def as_json(record: Any) -> str:
    """A record as one JSON object: what JSON has no form of as text, numbers that are not finite as null."""
    return json.dumps(plain(record), indent=1)


def plain(value: Any) -> Any:
    """Records, mappings and lists as JSON has them; numbers that are not finite are null, all else is text.

    Fields that the `repr` of a record leaves out are left out.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        shown = [name for name, own in value.__dataclass_fields__.items() if own.repr]
        return {name: plain(getattr(value, name)) for name in shown}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in cast("Sequence[Any]", value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return _setting_text(value)


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...], width: int | None = None) -> str:
    """Columns as wide as their widest entry.

    Args:
        rows: Entries of each row.
        header: Names of the columns.
        width: Characters of a line: columns without entries, and the last ones beyond the width, are left out. None
            takes all columns.
    """
    everything = [header, *rows]
    used = [at for at in range(len(header)) if width is None or any(row[at] for row in rows)]
    widths = {at: max(len(row[at]) for row in everything) for at in used}
    while width is not None and sum(widths.values()) + 2 * len(widths) > width and len(widths) > 3:
        widths.pop(max(at for at in widths if at < max(widths)))
    lines = ["  ".join(row[at].ljust(wide) for at, wide in widths.items()).rstrip() for row in everything]
    return "\n".join([lines[0], "  ".join("-" * wide for wide in widths.values()), *lines[1:]])


def _cells(row: DepthRow, is_best: bool) -> tuple[str, ...]:
    probe = "" if row.probe is None else f"{row.probe:.3f} ± {row.probe_error or 0:.3f}"
    reach = "" if row.reachable is None else f"{row.reachable:.3f} ± {row.reachable_error or 0:.3f}"
    rank = "" if row.effective_rank is None else f"{row.effective_rank:.0f}"
    return ("->" if is_best else "", row.name + (" *" if row.why_not else ""), reach, probe,
            _number(row.knn), _number(row.logme), _number(row.regularized_hscore), rank, _count(row.num_trainable),
            size_text(row.bytes_per_sample) if row.through else "", _seconds(row.epoch_s), _seconds(row.cached_epoch_s),
            _seconds(row.total_s))  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _count(value: int) -> str:
    return f"{value / 1e6:.1f} M" if value >= 1e5 else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "" if value is None else seconds_text(value)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _setting_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(getattr(value, "__qualname__", value))


def _no_symptoms(diagnosis: Diagnosis, judged: int) -> str:
    idle, open_ = len(diagnosis.passed) - judged, len(diagnosis.not_judged)
    counts = [f"{judged} rule{'s' if judged != 1 else ''} passed"]
    counts += [f"{idle} {'do' if idle != 1 else 'does'} not apply"] if idle else []
    counts += [f"{open_} could not be evaluated"] if open_ else []
    return f"No symptoms found. {'; '.join(counts)}."


def _groups(diagnosis: Diagnosis) -> list[list[Finding]]:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in diagnosis.findings:
        groups.setdefault((finding.code, finding.outcome), []).append(finding)
    return list(groups.values())


def _symptoms(diagnosis: Diagnosis) -> list[str]:
    """One line for each code."""
    groups = _groups(diagnosis)
    more = [f" and {len(others)} more layer{'s' if len(others) > 1 else ''}" if others else "" for _, *others in groups]
    return [f"{first.headline}{tail}" for (first, *_), tail in zip(groups, more, strict=True)] or ["no symptoms"]


def _finding_text(first: Finding, others: list[Finding]) -> str:
    """A finding, and the other layers in which the same was found."""
    layers = [finding.place for finding in others if finding.layer]
    if not layers:
        return str(first)
    more = f" and {len(layers) - _MOST} more" if len(layers) > _MOST else ""
    head, _, advice = str(first).rpartition("\n")
    return f"{head}\n  Also in {', '.join(layers[:_MOST])}{more}.\n{advice}"


def _conclusion(diagnosis: Diagnosis) -> str:
    if diagnosis.cause is not None:
        return f"Cause: {diagnosis.cause}"
    if not diagnosis.is_healthy:
        return f"Causes that fit: {', '.join(diagnosis.candidates) or 'none known'}"
    if any(finding.code in _NOTHING_TRAINS for finding in diagnosis.findings):
        return "No issue was found, but something does not train or learn: its cause could not be judged."
    if diagnosis.not_judged:
        return "No issue was found by the rules that could be evaluated."
    return "No issue was found: training may be fine."


def _left_open(diagnosis: Diagnosis) -> list[str]:
    """What could not be evaluated, by reason."""
    by_reason: dict[str, list[str]] = {}
    for finding in diagnosis.not_judged:
        by_reason.setdefault(finding.why, []).append(f"{finding.code} {finding.title}")
    return [f"Could not be evaluated: {', '.join(titles)}: {why}" for why, titles in by_reason.items()]
