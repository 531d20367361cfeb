"""When a treatment is ahead of no treatment: what held-out scores must show. Tuned on the exam's tuning part."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.experiments.score import Score

# The loss over that without, the gain in right answers, and the standard errors that it must be away from zero. Least
# is asked for an issue of a network that learns nothing, most for a tip of one that learns.
_OF_ISSUES, _OF_TIPS, _OF_DOUBTS = (0.97, 0.0, 0.0), (0.96, 0.04, 2.0), (0.9, 0.08, 2.0)
# The loss over that without: lower by far; clearly, so that of an issue no more is asked; a little, three times.
_FAR, _CLEARLY, _STEADY, TIMES = 0.6, 0.8, 0.94, 3
_ALL = 0.95  # of the loss of one answer for all is saved: there is little left to gain
# The loss over that without, beyond which it is out: at the first mark, later, and later beside a network that learns.
_LOST_AT_FIRST, _LOST, _NO_BETTER = 2.0, 1.05, 0.99


def has_lost(own: Score, other: Score, *, marks: int, learns: bool) -> bool:
    """True if a treatment is out.

    Args:
        own: With it.
        other: Without, after as many steps.
        marks: How often they were compared, this time included.
        learns: True if the network learns without.
    """
    most = _LOST_AT_FIRST if marks == 1 else _NO_BETTER if marks > 2 and learns else _LOST
    return not falls(own, other, 1 - most)


def leads(own: Score, other: Score, *, is_issue: bool, has_symptom: bool, learns: bool) -> bool:
    """True if held-out loss and answers are clearly better.

    Args:
        own: With the treatment.
        other: Without.
        is_issue: True if a rule calls it an issue what is treated.
        has_symptom: True if a rule found anything of it.
        learns: True if the network learns without.
    """
    fall, least, errors = _OF_ISSUES if is_issue else _OF_TIPS
    if learns or not has_symptom:
        fall, least, errors = _OF_TIPS if is_issue else _OF_DOUBTS
    gain, error = own.gain_over(other)
    is_lower = is_issue and has_more(other) and falls(own, other, 1 - _CLEARLY) and gain >= 0
    return is_lower or (falls(own, other, 1 - fall) and gain >= max(least, errors * error))


def leads_by_far(own: Score, other: Score) -> bool:
    """True if no more steps without treatment need be seen, of a network that learns nothing without."""
    return falls(own, other, 1 - _FAR)


def leads_clearly(own: Score, other: Score) -> bool:
    """True if the loss is much lower, and no fewer answers are right."""
    return falls(own, other, 1 - _CLEARLY) and own.share >= other.share


def leads_a_little(own: Score, other: Score) -> bool:
    """True if it is worth a look after more steps."""
    return falls(own, other, 1 - _STEADY)


def leads_at_last(own: Score, other: Score, *, learns: bool) -> bool:
    """True if loss and answers are better as much as a tip asks; beside a network that learns nothing, answers alone.

    Args:
        own: With the treatment.
        other: Without.
        learns: True if the network learns without.
    """
    fall, least, errors = _OF_TIPS
    gain, error = own.gain_over(other)
    return falls(own, other, (1 - fall) if learns else 0.0) and gain >= max(least, errors * error)


def leads_steadily(pairs: Sequence[tuple[Score, Score]]) -> bool:
    """True if the last of these pairs, (with, without), all show a lower loss, and no fewer right answers."""
    last = pairs[-TIMES:]
    return len(last) == TIMES and all(
        leads_a_little(own, other) and own.share >= other.share and has_more(other) for own, other in last
    )


def has_more(score: Score) -> bool:
    """True if there is something left to gain."""
    return score.skill is None or score.skill < _ALL


def falls(own: Score, other: Score, share: float) -> bool:
    """True if the loss is lower than the other's by more than this share of it, whatever its sign."""
    if not math.isfinite(other.loss):
        return math.isfinite(own.loss)
    return own.loss < other.loss - share * abs(other.loss)
