"""FL404: a network that answers held-out samples no better than with one answer for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.health.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.health.records import Evidence

ABOUT = About(
    "FL404", "nothing is learnt", "learning_rate",
    "check that every input still belongs to its target: shuffle both together, or neither. Then train on one batch "
    "alone: a network that cannot learn it by heart is broken; one that can lacks steps, size, or inputs that tell the "
    "targets.",
    8,
)  # fmt: skip
SKILLED = 0.1  # of the loss of one answer for all: a network that saves so much learns
TIME = 45  # steps, after which a network that learns nothing is stuck


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """What the model does better, on samples that it was not trained on, than one answer for all."""
    skill, steps = evidence.skill, len(evidence.losses)
    if skill is None or steps < TIME:
        return (ABOUT.not_applicable("no held-out samples were scored, or less than 45 steps were seen."),)
    if skill > SKILLED:
        return (ABOUT.passed(f"held-out samples are answered {skill:.0%} better than by one answer.", skill, SKILLED),)
    why = f"after {steps} steps, held-out samples are answered no better than with one answer for all of them."
    return (ABOUT.tip(why, skill, SKILLED),)
