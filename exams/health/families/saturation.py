"""Tanh and sigmoid units on their flat ends."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_saturated(sick: Evidence, twin: Evidence) -> bool:
    """More than half of a layer's (unit, row) pairs with less than 1% of the steepest slope, unlike the twin."""
    return max(sick.saturated_0, sick.saturated) > 0.5 and twin.saturated_0 < 0.2


UNDO = {"init": "fitting", "gain": 1.0}
SICKNESSES = (
    Sickness(
        "S1",
        "saturation",
        "tanh, large weights",
        Recipe(depth=4, activation="tanh"),
        "gain",
        (0.6, 0.8, 1.0, 1.4, 2.0, 4.0),
        UNDO,
        also=("initialization",),
        fixed={"init": "normal"},
        oracle=is_saturated,
    ),
    Sickness(
        "S2",
        "saturation",
        "sigmoid, large weights",
        Recipe(depth=3, activation="sigmoid", optimizer="adam", lr=0.01),
        "gain",
        (1.5, 2.0, 3.0, 4.0, 8.0, 16.0),
        UNDO,
        also=("initialization",),
        fixed={"init": "normal"},
        oracle=is_saturated,
    ),
    Sickness(
        "S3",
        "saturation",
        "tanh, large biases",
        Recipe(depth=4, activation="tanh"),
        "bias",
        (2.0, 2.5, 3.0, 4.0, 6.0),
        {"bias": 0.0},
        also=("initialization",),
        oracle=is_saturated,
        datasets=WITHOUT_CANCER,
    ),
)
