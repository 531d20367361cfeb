"""Successive halving: at which epochs heads are dropped, and which of them go on.

References:
    Jamieson and Talwalkar 2016, Non-stochastic Best Arm Identification and Hyperparameter Optimization, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def rungs(num_heads: int, epochs: int, factor: int) -> tuple[int, ...]:
    """Epochs after which only the best `1 / factor` of the heads go on, in order.

    The last rung stands at `epochs / factor`, each before it a factor earlier, so that every stretch between two rungs
    trains about as many heads times epochs. There are no more rungs than leave one head.

    Args:
        num_heads: Heads at the beginning.
        epochs: Epochs of those that are never dropped.
        factor: 2 or more.

    Example:
        >>> rungs(16, 16, 2), rungs(16, 10, 4), rungs(1, 10, 2)
        ((1, 2, 4, 8), (2,), ())
    """
    found: list[int] = []
    place, left = epochs, num_heads
    while left > 1 and place >= factor:
        place //= factor
        left = math.ceil(left / factor)
        found.append(place)
    return tuple(reversed(found))


def survivors(scores: Mapping[int, float], factor: int) -> list[int]:
    """The best `1 / factor` of the heads, rounded up, in the order of their numbers.

    Args:
        scores: By number of the head; higher is better. Equal scores prefer the smaller number.
        factor: 2 or more.

    Example:
        >>> survivors({0: 0.5, 3: 0.9, 4: 0.7}, 2)
        [3, 4]
    """
    ranked = sorted(scores, key=lambda number: (-scores[number], number))
    return sorted(ranked[: math.ceil(len(ranked) / factor)])
