"""FL201: rectifier units that are zero for every sample."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import DRAW_ALL, LEAKY
from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import finite_records, has_unseen_activations, of_layer

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL201", "dead units", "dead_units",
    f"{LEAKY}. Where units died while training, divide the learning rate by 3 to 10 as well; where they were dead "
    f"before the first step: {DRAW_ALL}.",
    6,
)  # fmt: skip
# Zero for single samples is what rectifiers are for (80% sparse layers are healthy); zero for all of them is not.
_ISSUE, _TIP = 0.5, 0.2


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Share of units that were zero for every sample of five sampled steps, by layer; the last steps count."""
    records = finite_records(evidence)
    shares = {layer.name: of_layer(records, layer.name, "dead") for layer in evidence.layers}
    known = {name: median(found[-5:]) for name, found in shares.items() if found}
    if not known:
        if has_unseen_activations(evidence):
            return (
                ABOUT.not_judged(
                    "no activation module was seen: the outputs of functions such as F.relu cannot be measured."
                ),
            )
        return (ABOUT.not_applicable("the model has no rectifier module, and units of other activations do not die."),)
    found = tuple(_finding(name, share, shares[name][0]) for name, share in known.items() if share > _TIP)
    worst = max(known.values())
    return found or (
        ABOUT.passed(f"at most {worst:.0%} of the units of a layer were zero for every sample.", worst, _ISSUE),
    )


def _finding(name: str, share: float, first: float) -> Finding:
    died = f", {first:.0%} at the first step" if first < share / 2 else ""
    why = f"{share:.0%} of the units of layer {name!r} were zero for every sample in the measured batches{died}."
    return (ABOUT.issue if share > _ISSUE else ABOUT.tip)(why, share, _ISSUE, name)
