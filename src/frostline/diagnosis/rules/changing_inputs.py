"""FL515: inputs that are in another unit at the end of a training than at its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL515", "inputs change their unit", "input_scale",
    "change a copy of what is stored, image = stored[index].clone(), before it is scaled or augmented: in place, the "
    "stored values change each time they are read.",
    9,
)  # fmt: skip
_TIMES = 3.0  # by which inputs grow or shrink; batches of real data differ by a tenth


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The size of the usual input in the last tenth of the batches, over that in the first."""
    rows = evidence.rows
    if rows is None or not rows.first_size > 0 or not rows.last_size > 0:
        return (ABOUT.not_applicable("the inputs are no real numbers, or the batches are few."),)
    times = max(rows.last_size / rows.first_size, rows.first_size / rows.last_size)
    sizes = f"a root mean square of {rows.first_size:.3g} in the first batches, and of {rows.last_size:.3g} in the last"
    if times < _TIMES:
        return (ABOUT.passed(f"inputs have {sizes}.", times, _TIMES),)
    return (ABOUT.issue(f"inputs have {sizes}: their unit changes as the training goes on.", times, _TIMES),)
