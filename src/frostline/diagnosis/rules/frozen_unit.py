"""FL607: inputs in another unit than that in which frozen statistics were measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL607", "frozen statistics of another unit", "input_scale",
    "give the model inputs in the unit that its weights were trained with: the same preprocessing (pixels / 255, then "
    "the mean and deviation of that training), or none where it had none.",
    7,
)  # fmt: skip
_LIMIT = 10.0  # times the measured deviation, or a tenth of it; photographs of another kind stay within 3


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How far a batch spreads at the first BatchNorm that stays in evaluation mode, over what its statistics say."""
    unit = evidence.modes.frozen_unit if evidence.modes is not None else None
    if unit is None:
        return (ABOUT.not_applicable("no BatchNorm stays in evaluation mode while the model trains."),)
    layer, times = unit
    why = (
        f"layer {layer!r} keeps its statistics, and the values of a batch spread {times:.3g} times as far as these say."
    )
    if 1 / _LIMIT < times < _LIMIT:
        return (ABOUT.passed(why, times, _LIMIT),)
    learns_nothing = evidence.skill is not None and evidence.skill <= LEARNS
    factor = f"inputs times {1 / times:.3g}" if times > 0 else "inputs that differ"
    found = (ABOUT.issue if learns_nothing else ABOUT.tip)(why, times, _LIMIT, layer)
    return (replace(found, advice=f"{ABOUT.advice} By its statistics, {factor} would be what it was trained on."),)
