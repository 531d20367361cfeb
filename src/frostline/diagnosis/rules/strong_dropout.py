"""FL410: dropout that leaves too little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL410", "dropout too strong", "dropout",
    "lower dropout: its number is the share that is dropped, not the share that is kept (nn.Dropout(0.1) keeps 0.9).",
    6,
)  # fmt: skip
_TIP = 0.7  # of the units are dropped; 0.5 is usual in wide layers
_STUCK = 0.4  # the same, in a network that learns nothing


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The largest share that a layer drops."""
    modes = evidence.modes
    if modes is None:
        return (ABOUT.left_to_checkup("dropout was not looked at"),)
    if not modes.dropout:
        return (ABOUT.not_applicable("no dropout layer is active."),)
    learns_nothing = evidence.skill is not None and evidence.skill <= LEARNS
    least = _STUCK if learns_nothing else _TIP
    why = f"dropout sets up to {modes.dropout:.0%} of a layer's units to zero in training."
    return ((ABOUT.tip if modes.dropout >= least else ABOUT.passed)(why, modes.dropout, least),)
