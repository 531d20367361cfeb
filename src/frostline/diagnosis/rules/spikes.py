"""FL103: rare steps with a gradient far beyond the usual."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import OUTLYING
from frostline.diagnosis.rules.reading import finite_records, typical

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL103", "gradient spikes", "gradient_spikes",
    "clip by the measured norms: make clip = fl.remedies.clip_by_percentile(90) once, and call "
    "clip(model.parameters()) between backward() and optimizer.step().",
    6,
)  # fmt: skip
_ISSUE, _TIP = 20.0, 8.0  # times the median; norms of healthy runs stay within 6 of it after the first steps
_WARMUP = 5
_BEFORE = 20  # steps that tell what is usual
_ENDED = 3  # the same, of a run that ended in what is no number
_MEND = "look at those samples: correct their unit, or leave them out. Or "


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Largest gradient norm over the median of those before it, the first steps left out; rows that may bring it.

    Over those before it, because gradients of a network that has learnt shrink by orders of magnitude.
    """
    sampled = [r.gradient_norm for r in finite_records(evidence) if r.gradient_norm is not None]
    every = list(takewhile(math.isfinite, evidence.gradient_norms))
    is_cut = len(every) < len(evidence.gradient_norms)
    has_ended = is_cut and len(every) < _WARMUP + _BEFORE // 2  # soon, in what is no number: its first steps led there
    norms = (every or sampled)[0 if has_ended else _WARMUP :]
    fewest = _ENDED if has_ended else _BEFORE // 2
    usual = [(norm, typical(norms[max(0, at - _BEFORE) : at])) for at, norm in enumerate(norms)][fewest:]
    known = [(norm / middle, norm, middle) for norm, middle in usual if middle]
    rows = _rows(evidence)
    if len(norms) < fewest or not known:
        few = f"{len(norms)} gradient norms after the first steps: too few, or zero."
        return (_of_rows(rows, evidence) if rows else ABOUT.not_applicable(few),)
    ratio, norm, middle = max(known)
    why = f"the largest gradient norm is {ratio:.3g} times the median before it ({norm:.2g} against {middle:.2g})."
    if ratio > _TIP:
        finding = (ABOUT.issue if ratio > _ISSUE else ABOUT.tip)(f"{why} {rows}".strip(), ratio, _ISSUE)
        return (replace(finding, advice=_MEND + ABOUT.advice) if rows else finding,)
    return (_of_rows(rows, evidence) if rows else ABOUT.passed(why, ratio, _ISSUE),)


def _rows(evidence: Evidence) -> str:
    """Which rows are far out of the data; "" if none are."""
    facts = evidence.outliers
    if facts is None:
        return ""
    article = "an" if facts.what[0] in "aeiou" else "a"
    return (
        f"{_percent(facts.share)} of the samples have {article} {facts.what} far out of the data, up to "
        f"{facts.ratio:,.0f} times the usual size: batch {facts.step} has them at {', '.join(map(str, facts.samples))}."
    )


def _percent(share: float) -> str:
    """With as many digits as rare rows take."""
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.1g}%"


def _of_rows(rows: str, evidence: Evidence) -> Finding:
    """A gradient of the first steps is not judged, and one that has ended learning leaves no usual one behind."""
    assert evidence.outliers is not None
    return replace(ABOUT.tip(rows, evidence.outliers.ratio, OUTLYING), advice=_MEND + ABOUT.advice)
