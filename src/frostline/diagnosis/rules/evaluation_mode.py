"""FL604: layers that are in evaluation mode while the model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import listed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL604", "trained in evaluation mode", "mode",
    "call model.train() before the loop over the training batches, and again after each validation.",
    9,
)  # fmt: skip
_FEWEST = 20  # reported losses in a row


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """BatchNorm and dropout layers that are in evaluation mode while the model trains.

    A BatchNorm that never measured statistics is certain; others, and dropout, may be left out on purpose.
    """
    loop, modes = evidence.loop, evidence.modes
    if loop is not None and loop.evaluated >= _FEWEST and loop.silent:
        why = (
            f"the model was in evaluation mode at the last {loop.evaluated} reported losses, and in training mode "
            f"before: {listed(loop.silent)} (BatchNorm or dropout) did something else."
        )
        return (ABOUT.issue(why, float(loop.evaluated), float(_FEWEST)),)
    if modes is None:
        return (ABOUT.left_to_checkup("the modes of the layers were not read"),)
    count = len(modes.never_updated)
    if modes.never_updated:
        why = (
            f"{listed(modes.never_updated)}: BatchNorm in evaluation mode during training, with the running mean 0 and "
            "variance 1 that it was made with: it normalises nothing."
        )
        return (ABOUT.issue(why, float(count), 0.0, modes.never_updated[0] if count == 1 else None),)
    found = [*modes.updated_before, *modes.silent]
    if found:
        kinds = [kind for kind, some in (("BatchNorm", modes.updated_before), ("dropout", modes.silent)) if some]
        why = f"{listed(found)}: {' and '.join(kinds)} in evaluation mode during training, which may be meant."
        return (ABOUT.tip(why, float(len(found)), 0.0, found[0] if len(found) == 1 else None),)
    return (ABOUT.passed("no BatchNorm or dropout layer was in evaluation mode during training."),)
