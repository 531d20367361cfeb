"""FL603: running statistics that move in a frozen part."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL603", "moving statistics in a frozen part", "batchnorm",
    "freeze these layers, which holds their statistics still: fl.freeze(model, patterns=[\"bn1\"]), with their names.",
    5,
)  # fmt: skip


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """BatchNorm layers without trainable parameters, below trainable ones, that still follow the batches."""
    facts = evidence.norms
    if facts is None:
        return (ABOUT.not_applicable("the model has no BatchNorm layer, or its statistics were not compared."),)
    return tuple(
        replace(
            ABOUT.issue(f"layer {name!r} is frozen, but its running statistics moved.", None, None, name),
            advice=f"freeze it, which holds its statistics still: fl.freeze(model, patterns=[{name!r}]).",
        )
        for name in facts.moving_in_frozen
    ) or (ABOUT.passed("the running statistics of frozen layers did not move."),)
