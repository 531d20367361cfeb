"""FL501: inputs in units that the first layer cannot use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence, InputFacts

ABOUT = About(
    "FL501", "unscaled input", "input_scale",
    "standardise the inputs (mean 0, deviation 1, by feature) in the data, or let the model do it: "
    "fl.remedies.standardize_inputs(model, loader). Pretrained layers need inputs scaled as in their own training.",
    7,
)  # fmt: skip
# Standardised data have size 1, pixels in 0..1 about 0.4: a factor of ten on either side is another unit, which a
# training may get used to; one of thirty or more, it hardly does.
# Values from 0 to 1 have means of at most three deviations.
# Pixels at the border of real scans vary twenty times less than those in the middle, and train well.
_LARGE, _OFFSET, _UNEVEN = (4.0, 30.0), (3.0, 10.0), (30.0, 100.0)  # (tip, issue)
_SMALL = (0.15, 0.02)
_ROW = 0.5  # norm of a row: many features, of which few are not 0, are no smaller than one


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Size of the features, their offset in units of their deviation, and how uneven they are."""
    facts = evidence.inputs
    if facts is None:
        return (ABOUT.not_applicable("the input is not a batch of real numbers."),)
    if facts.is_normalised:
        return (ABOUT.not_applicable("the first layer normalises its input."),)
    size, why, value, limit = oddness(facts)
    place = f" (input {facts.name})" if facts.name else ""
    if size > 0:
        return ((ABOUT.issue if size > 1 else ABOUT.tip)(f"{why}{place}.", value, limit),)
    return (ABOUT.passed(f"features are of size {facts.widest:.2g}{place}.", facts.widest, _LARGE[1]),)


def oddness(facts: InputFacts) -> tuple[float, str, float, float]:
    """(how odd, 1 at the issue's limit and 0 where all is well; why; measured; limit)."""
    odd = [
        (value / issue, f"{what} {value:.3g}", value, issue)
        for value, (tip, issue), what in (
            (facts.widest, _LARGE, "the largest feature has a root mean square of"),
            (facts.offset, _OFFSET, "a feature's mean, in units of its deviation, is"),
            (facts.unevenness, _UNEVEN, "the largest deviation of a feature, over the median one, is"),
        )
        if value > tip
    ]
    tip, issue = _SMALL
    if facts.widest < tip and facts.row_size < _ROW:
        why = f"the largest feature has a root mean square of {facts.widest:.2g}"
        odd.append((issue / max(facts.widest, 1e-30), why, facts.widest, issue))
    return max(odd, default=(0.0, "", facts.widest, _LARGE[1]))
