"""FL408: layers that stand in several places, and parameters under several names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import listed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL408", "layers that share their weights", "shared",
    "if they are meant to differ, make each one on its own: nn.ModuleList([make() for _ in range(n)]) in place of "
    "[make()] * n, copy.deepcopy in place of a second name. If they are meant to share, this is no fault.",
    7,
)  # fmt: skip
_MOST = 3  # that are named


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Layers with weights under several names; recurrent use of one layer under one name is not seen."""
    if evidence.shared is None:
        return (ABOUT.left_to_checkup("names of layers were not compared"),)
    if not evidence.shared:
        return (ABOUT.passed("no layer and no parameter has several names."),)
    listing = "; ".join(f"{listed(names)} are the same {what}" for names, what in evidence.shared[:_MOST])
    return (ABOUT.tip(f"{listing}.", float(len(evidence.shared)), 0.0),)
