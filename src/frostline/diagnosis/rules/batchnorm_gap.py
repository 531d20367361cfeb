"""FL601: BatchNorm statistics that do not describe what the network computes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import REESTIMATE
from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL601", "BatchNorm differs between training and evaluation", "batchnorm",
    f"{REESTIMATE}; and set the momentum of these layers to 0.1.",
    7,
)  # fmt: skip
_ISSUE, _TIP = 0.5, 0.2  # by how much the loss rises, over the loss with exact statistics
_USUAL = (0.03, 0.5)  # momentum, at which statistics follow the weights in some dozens of steps
_LAGS = " This momentum is usual: the running statistics lag behind weights that still move fast."
_ESTIMATE = f"let the learning rate fall towards the end; or, before the model is evaluated, {REESTIMATE}."


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Loss in eval mode, with running statistics, against exact ones, on the same samples."""
    facts = evidence.norms
    if facts is None or facts.eval_loss is None or facts.exact_loss is None or facts.train_loss is None:
        return (
            ABOUT.not_applicable("the model has no BatchNorm layer with running statistics, or none was compared."),
        )
    scale = max(abs(facts.exact_loss), 0.1 * abs(facts.train_loss), 1e-12)
    rise = (facts.eval_loss - facts.exact_loss) / scale
    why = (
        f"the loss is {facts.eval_loss:.3g} with running statistics, {facts.exact_loss:.3g} with exact ones and "
        f"{facts.train_loss:.3g} with batch statistics; the momentum is {facts.momentum}."
    )
    if rise <= _TIP:
        return (ABOUT.passed(why, rise, _ISSUE),)
    if facts.momentum is not None and _USUAL[0] <= facts.momentum <= _USUAL[1]:
        return (replace(ABOUT.tip(why + _LAGS, rise, _ISSUE, facts.layers[0]), advice=_ESTIMATE),)
    return ((ABOUT.issue if rise > _ISSUE else ABOUT.tip)(why, rise, _ISSUE, facts.layers[0]),)
