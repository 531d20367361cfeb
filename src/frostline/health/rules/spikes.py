"""FL103: rare steps with a gradient far beyond the usual."""

from __future__ import annotations

import math
from itertools import takewhile
from typing import TYPE_CHECKING

from frostline.health.rules.contract import About
from frostline.health.rules.reading import finite_records, typical

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About(
    "FL103", "gradient spikes", "gradient_spikes",
    "clip by the measured norms: fl.remedies.clip_by_percentile(90), or clip_by_norm at the usual norm.",
    6,
)  # fmt: skip
_ISSUE, _TIP = 20.0, 8.0  # times the median; norms of healthy runs stay within 6 of it after the first steps
_WARMUP = 5
_BEFORE = 20  # steps that tell what is usual


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Largest gradient norm over the median of those before it, the first steps left out.

    Over those before it, because gradients of a network that has learnt shrink by orders of magnitude.
    """
    sampled = [r.gradient_norm for r in finite_records(evidence) if r.gradient_norm is not None]
    every = list(takewhile(math.isfinite, evidence.gradient_norms))
    norms = (every or sampled)[_WARMUP:]
    usual = [(norm, typical(norms[max(0, at - _BEFORE) : at])) for at, norm in enumerate(norms)][_BEFORE // 2 :]
    known = [(norm / middle, norm, middle) for norm, middle in usual if middle]
    if len(norms) < 10 or not known:
        return (ABOUT.not_applicable(f"{len(norms)} gradient norms after the first steps: too few, or zero."),)
    ratio, norm, middle = max(known)
    why = f"the largest gradient norm is {ratio:.1f} times the usual one before it ({norm:.2g} against {middle:.2g})."
    if ratio > _ISSUE:
        return (ABOUT.issue(why, ratio, _ISSUE),)
    return (ABOUT.tip(why, ratio, _ISSUE) if ratio > _TIP else ABOUT.passed(why, ratio, _ISSUE),)
