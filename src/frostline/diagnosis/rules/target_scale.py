"""FL505: targets in units that a new network is far away from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

_STANDARDISE = "standardise the targets by mean and deviation of the training set, and scale predictions back"
_ENDS = "If the model ends in an activation, only divide the targets by their deviation."
ABOUT = About(
    "FL505", "unscaled targets", "input_scale",
    f"{_STANDARDISE}; or let the model do that (fl.remedies.rescale_outputs), plain SGD at a rate that fits. {_ENDS}",
    5,
)  # fmt: skip
# A new network answers with values of about 1: weights have to travel to reach others, or drown what is small in noise.
_LARGE, _SMALL = (10.0, 30.0), (0.03, 0.01)  # (tip, issue)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Mean and deviation of real targets, where the loss sees nothing of them but the error."""
    facts, loss = evidence.targets, evidence.loss
    if facts is None:
        return (ABOUT.not_applicable("the targets are not real numbers, or were not measured."),)
    if loss is not None and not loss.follows_shift:
        return (
            ABOUT.not_applicable(
                "the loss depends on more than the errors, so targets in another unit would be another task."
            ),
        )
    size = max(abs(facts.mean), facts.deviation)
    why = f"the targets have a mean of {facts.mean:.3g} and a standard deviation of {facts.deviation:.3g}."
    if size > _LARGE[0]:
        return (_advised((ABOUT.issue if size > _LARGE[1] else ABOUT.tip)(why, size, _LARGE[1]), evidence),)
    if facts.deviation < _SMALL[0]:
        make = ABOUT.issue if facts.deviation < _SMALL[1] else ABOUT.tip
        return (_advised(make(why, facts.deviation, _SMALL[1]), evidence),)
    return (ABOUT.passed(why, size, _LARGE[1]),)


def _advised(finding: Finding, evidence: Evidence) -> Finding:
    facts = evidence.targets
    assert facts is not None
    advice = f"{_STANDARDISE}, or let the model do that: {rescaling(facts.mean, facts.deviation)}"
    if not evidence.optimizer.is_scale_free:
        degree = evidence.loss.degree if evidence.loss is not None else 2.0
        advice += f", with the learning rate divided by {facts.deviation**degree:.2g}"
    return replace(finding, advice=f"{advice}. {_ENDS}")


def rescaling(mean: float, deviation: float) -> str:
    """The call that scales a model's outputs to the unit of the targets."""
    return f"fl.remedies.rescale_outputs(model, loader, mean={mean:.3g}, deviation={deviation:.3g})"
