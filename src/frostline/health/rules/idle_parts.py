"""FL405: parts that ask for gradients, and never move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.health.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About(
    "FL405", "parts that do not train", "learning_rate",
    "if they are meant to train: give them to the optimizer, at a rate above 0, and keep them in the graph (no detach, "
    "no torch.no_grad). If not: fl.freeze them, which saves their gradients and lets them be cached.",
    8,
)  # fmt: skip
_SHOWN = 4


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Trainable parameters whose weights are, to the bit, what they were; a layer may be left alone on purpose."""
    if evidence.idle is None:
        return (ABOUT.not_applicable("nobody compared weights before and after."),)
    if not evidence.idle:
        return (ABOUT.passed("all trainable parts have moved."),)
    by_reason: dict[str, list[str]] = {}
    for name, why in evidence.idle:
        by_reason.setdefault(why, []).append(name)
    told = "; ".join(f"{_names(names)}: {why}" for why, names in by_reason.items())
    return (ABOUT.tip(f"these have not moved in {len(evidence.losses)} steps: {told}.", len(evidence.idle), 0),)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
