"""FL405: parts that ask for gradients, and never move."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL405", "parts that do not train", "learning_rate",
    "if they are meant to train: make the optimizer once the model is complete, over model.parameters(), at a rate "
    "above 0, and keep them in the graph (no detach, no torch.no_grad). If not, freeze them, which saves their "
    "gradients and lets them be cached: fl.freeze(model, patterns=...), with their names.",
    8,
)  # fmt: skip
_SHOWN = 4


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Trainable parameters whose weights are, to the bit, what they were; a layer may be left alone on purpose.

    A monitor compares those that its optimizer does not hold. It is an issue only if that optimizer holds others,
    which are not in the model and get no gradient: those of a layer that was replaced.
    """
    idle = evidence.idle
    if idle is None and evidence.unheld is None:
        return (ABOUT.not_judged("the weights before and after training were not compared."),)
    if not idle and not evidence.unheld:
        known = (
            "all trainable parameters have moved."
            if idle is not None
            else "the optimizer holds all trainable parameters."
        )
        return (ABOUT.passed(known),)
    by_reason: dict[str, list[str]] = {}
    for name, why in idle or [(name, "not in the optimizer") for name in evidence.unheld or ()]:
        by_reason.setdefault(why, []).append(name)
    told = "; ".join(f"{_names(names)}: {why}" for why, names in by_reason.items())
    steps, count = len(evidence.losses), float(len(idle or evidence.unheld or ()))
    why = f"these trainable parameters have not moved{f' in {steps} steps' if steps else ''}: {told}."
    (layer, *others) = [name for names in by_reason.values() for name in names]
    layer = None if others else layer
    if not evidence.holds_strangers or not evidence.unheld:
        return (_named(ABOUT.tip(why, count, 0, layer), by_reason),)
    why += " The optimizer holds parameters that are not in the model and get no gradient: it is older than the model."
    return (_named(ABOUT.issue(why, count, 0, layer), by_reason),)


def _named(finding: Finding, by_reason: dict[str, list[str]]) -> Finding:
    """The finding with the names in its advice, so that the call runs as it is written."""
    names = [name for several in by_reason.values() for name in several if name]
    return replace(finding, advice=finding.advice.replace("patterns=...), with their names", f"patterns={names!r})"))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
