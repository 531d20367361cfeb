"""FL606: a network that is another one in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL606", "training and evaluation mode far apart", "mode",
    "look for what forward does under self.training, and for what only training mode scales (dropout without its "
    "factor, noise): in evaluation mode the model must compute what it was trained to. Of a running average of the "
    "weights, lower the decay: 0.99 lags by a hundred steps, 0.9999 by ten thousand.",
    7,
)  # fmt: skip
_TIP, _ISSUE = 1.5, 3.0  # times the loss in training mode
_OF_FIRST = 0.1  # of the first loss, by which it must be above that


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The loss in evaluation mode against that in training mode, on the same rows, without BatchNorm."""
    modes = evidence.modes
    if modes is None or modes.train_loss is None or modes.eval_loss is None:
        return (ABOUT.not_applicable("the model has a BatchNorm (FL601 compares it), or the modes were not compared."),)
    first = next((loss for _, loss in evidence.losses), 0.0)
    rise, size = modes.eval_loss - modes.train_loss, max(abs(modes.train_loss), 1e-12)
    why = (
        f"on the same rows the loss is {modes.train_loss:.3g} in training mode and {modes.eval_loss:.3g} in "
        "evaluation mode."
    )
    ratio = 1 + rise / size
    if ratio <= _TIP or rise <= _OF_FIRST * abs(first):
        return (ABOUT.passed(why, ratio, _ISSUE),)
    return ((ABOUT.issue if ratio > _ISSUE else ABOUT.tip)(why, ratio, _ISSUE),)
