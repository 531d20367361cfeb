"""FL519: terms of a loss that count for nothing, or that work against the others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.core.records import Finding
    from frostline.diagnosis.rules.loss_records import Summand
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL519", "a term of the loss", "loss_mismatch",
    "bring the terms of the loss to one size: print each of them at every step, and give each a weight, so that none "
    "drowns another.",
    6,
)  # fmt: skip
_NO_GRADIENT = (
    "add the tensor itself to the loss, without .item(), float(), .detach(), .data or torch.no_grad() on the way: loss "
    "= loss + weight * term."
)
_RARE = (
    "let this term count in every batch: compute it on rows of its own (its condition is met in hardly any row of a "
    "batch), or divide its sum by the number of rows that it counts, and not by all."
)
_SMALL = (
    "give this term a larger weight, or the others a smaller one, so that their gradients are of one size: look for a "
    "factor that was left out (temperature ** 2 of a distillation), a mean where others are sums, targets in another "
    "unit (two terms on one scale)."
)
_AGAINST = (
    "look at the sign of this term: what is to be large is subtracted, loss = error - weight * entropy, and what is to "
    "be small is added; take a hundredth of its weight if the sign is right."
)
_COUNTS, _WELL = 0.03, 0.8  # of the loss; of the loss of the baseline is saved all the same
_SELDOM = 0.75  # of the batches
_LITTLE, _FALLEN = 0.05, 0.5  # of the gradient of the largest term; of its own value
_DONE = 0.1  # of its value before training
_OPPOSED, _AS_LARGE = -0.95, 0.3
_OPPOSED_LATE = -0.4  # at the end, where a single batch is not at rest
_LARGE = 0.3  # of the loss before training
_STUCK = 0.7  # of its value before training: a term that is held where it was


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """What the terms of a sum do: an issue only where one has no gradient at all, and nothing is learnt well."""
    terms = evidence.summands
    if not terms:
        return (ABOUT.not_applicable("the loss is not seen to be a sum of several terms."),)
    is_well = evidence.skill is not None and evidence.skill > _WELL
    found = _cut(terms, is_well=is_well) or _rare(terms)
    if found is None and not is_well:
        found = _opposed(terms) or _balanced(terms)
    found = found or _drowned(terms)
    return (found or ABOUT.passed(f"the loss is a sum of {len(terms)} terms, each of which counts."),)


def _cut(terms: Sequence[Summand], *, is_well: bool) -> Finding | None:
    """A term without a gradient that is more than a trifle of the loss, at first or in the end."""
    sizes = max(abs(term.first) for term in terms), max(abs(term.last) for term in terms)
    for term in terms:
        if term.slope is None and (abs(term.first) >= _COUNTS * sizes[0] or abs(term.last) >= _COUNTS * sizes[1]):
            why = (
                f"a term of the loss has no gradient, though its value ({term.first:.3g} at first) changes with the "
                f"weights: a number that is added in {term.name}."
            )
            return replace((ABOUT.tip if is_well else ABOUT.issue)(why, 0.0, None), advice=_NO_GRADIENT)
    return None


def _rare(terms: Sequence[Summand]) -> Finding | None:
    for term in terms:
        if _SELDOM <= term.rare < 1:
            why = f"a term of the loss, {term.name}, is exactly 0 in {term.rare:.0%} of the batches: it hardly counts."
            return replace(ABOUT.tip(why, term.rare, _SELDOM), advice=_RARE)
    return None


def _opposed(terms: Sequence[Summand]) -> Finding | None:
    for term in terms:
        if _is_opposed(term):
            why = (
                f"a term of the loss, {term.name}, works against all others from the start: its gradient at the "
                f"weights is {term.slope or 0:.2g} times the largest, at a cosine of {term.against:.2f} with theirs."
            )
            return replace(ABOUT.tip(why, term.against, _OPPOSED), advice=_AGAINST)
    return None


def _balanced(terms: Sequence[Summand]) -> Finding | None:
    """Two terms that are at rest against each other, one of them where it began."""
    total = sum(abs(term.first) for term in terms)
    held = [term for term in terms if _is_kept_in_check(term) and term.first > _LARGE * total]
    others = [term for term in terms if term not in held and _pulls(term)]
    if not held or not others:
        return None
    one, other = held[0], others[0]
    why = (
        f"two terms of the loss work against each other in the end: {one.name} stays where it was ({one.first:.3g}, "
        f"then {one.last:.3g}), and {other.name} has a gradient at the weights that is as large, at a cosine of "
        f"{other.last_against:.2f} with its own."
    )
    return replace(ABOUT.tip(why, other.last_against, _OPPOSED_LATE), advice=_AGAINST)


def _drowned(terms: Sequence[Summand]) -> Finding | None:
    largest = [term for term in terms if term.slope == 1.0]
    is_ahead = bool(largest) and all(0 <= term.last < _DONE * term.first for term in largest)
    small = [term for term in terms if _is_drowned(term, is_ahead=is_ahead)]
    if not small:
        return None
    one = min(small, key=lambda term: term.slope or 0.0)
    why = (
        f"a term of the loss, {one.name}, hardly counts beside the others: its gradient at the weights is "
        f"{one.slope or 0:.1%} of the largest before training, and it went from {one.first:.3g} to {one.last:.3g}."
    )
    return replace(ABOUT.tip(why, one.slope, _LITTLE), advice=_SMALL)


def _is_opposed(term: Summand) -> bool:
    return term.slope is not None and term.slope > _AS_LARGE and term.against < _OPPOSED


def _pulls(term: Summand) -> bool:
    return term.last_slope is not None and term.last_slope > _AS_LARGE and term.last_against < _OPPOSED_LATE


def _is_kept_in_check(term: Summand) -> bool:
    """Whether it is of the rows, and has hardly fallen, against others that are as large."""
    return _pulls(term) and term.is_of_rows and _STUCK * term.first < term.last < term.first / _STUCK


def _is_drowned(term: Summand, *, is_ahead: bool) -> bool:
    """Whether it is of the rows, hardly counts, and has not fallen by half: to the end, or until the largest was done.

    Args:
        term: One of several.
        is_ahead: True if the term with the largest gradient has fallen to next to nothing.
    """
    if term.slope is None or term.last_slope is None or not term.is_of_rows:
        return False
    is_little = term.slope < _LITTLE and (is_ahead or term.last_slope < _LITTLE)
    return is_little and term.first > 0 and term.last > _FALLEN * term.first
