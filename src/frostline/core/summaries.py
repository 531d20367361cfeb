"""Records in words: what a diagnosis, a healing and a training come to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from frostline.core.records import Diagnosis, Finding, FitResult, Healing
    from frostline.core.selection_records import SweepResult

_NOTHING_TRAINS = frozenset({"FL404", "FL405", "FL406"})  # nothing is learnt; what does not train
_MOST = 6  # other layers that are named


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """Every finding with its evidence and advice, what could not be evaluated, and the conclusion."""
    judged = sum(finding.outcome == "passed" for finding in diagnosis.passed)
    if not diagnosis.findings and not judged:
        silent = diagnosis.not_judged or diagnosis.passed
        return "\n".join(["Nothing could be judged:", *dict.fromkeys(finding.why for finding in silent)])
    if not diagnosis.findings:
        return "\n".join([_no_symptoms(diagnosis, judged), *_left_open(diagnosis)])
    told = [_finding_text(first, others) for first, *others in _groups(diagnosis)]
    return "\n".join([*told, *_left_open(diagnosis), _conclusion(diagnosis)])


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
        lines.append(f"  cache:      {result.cache.computed} samples computed, {result.cache.reused} reused")
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
    told = table(rows, ("head", *names, result.metric, "loss", "epoch", "outcome"))
    count = f"{len(result.table)} heads over {result.samples} rows, compared on {result.held_out}"
    return "\n".join([f"{count}, in {result.elapsed_s:.1f} s.", told, *(f"note: {note}" for note in result.notes)])


def as_json(record: Any) -> str:
    """A record as one JSON object: what JSON has no form of as text, numbers that are not finite as null."""
    return json.dumps(plain(record), indent=1)


def plain(value: Any) -> Any:
    """Records, mappings and lists as JSON has them; numbers that are not finite are null, all else is text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in cast("Sequence[Any]", value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return _setting_text(value)


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Columns as wide as their widest entry."""
    everything = [header, *rows]
    widths = [max(len(row[at]) for row in everything) for at in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


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
