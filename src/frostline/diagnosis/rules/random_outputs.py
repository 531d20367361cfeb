"""FL605: outputs that are random in evaluation mode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL605", "random outputs in evaluation mode", "mode",
    "give functional dropout the mode of the module: F.dropout(x, p, training=self.training); or use nn.Dropout. A "
    "model that samples its output on purpose needs nothing.",
    7,
)  # fmt: skip
_REMEMBERS = (
    "start every batch with a fresh state, hidden, _ = self.recurrent(inputs), or set the attribute that keeps it to "
    "None first. Only where each batch goes on in time where the one before it ended is the state meant to be kept."
)
_LIMIT = 1e-3  # of the largest output; sums in another order differ by 1e-6


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How far two passes over the same rows in evaluation mode differ; in most networks they must not."""
    redraws = evidence.modes.redraws if evidence.modes is not None else None
    if redraws is None:
        return (ABOUT.not_judged("two passes in evaluation mode were not compared, or their outputs cannot be."),)
    if evidence.outside is not None and evidence.outside.made_anew:
        return (ABOUT.not_applicable("layers with new random weights are made in every forward pass (FL405)."),)
    if evidence.modes is not None and evidence.modes.remembers and redraws > _LIMIT:
        why = (
            "two passes over the same rows with the same noise differ in evaluation mode: the model keeps a state from "
            "one batch to the next, and batches of other rows start with it."
        )
        return (replace(ABOUT.tip(why, redraws, _LIMIT), advice=_REMEMBERS),)
    why = f"two passes over the same rows in evaluation mode differ by {redraws:.1%} of the largest output."
    return ((ABOUT.tip if redraws > _LIMIT else ABOUT.passed)(why, redraws, _LIMIT),)
