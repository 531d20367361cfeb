"""Initial weights out of proportion, without vanishing, explosion, dead, saturated or equal units to blame."""

from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness

SICKNESSES = (
    Sickness(
        "W1",
        "initialization",
        "head far too large",
        Recipe(),
        "head_gain",
        (10.0, 20.0, 30.0, 100.0),
        {"head_gain": 1.0},
    ),
    Sickness(
        "W2",
        "initialization",
        "first layer far too large",
        Recipe(depth=4, optimizer="adam", lr=0.002),
        "first_gain",
        (10.0, 30.0, 100.0, 300.0),
        {"first_gain": 1.0},
        also=("exploding",),
        datasets=WITHOUT_CANCER,
    ),
)
