"""Rare steps with a gradient far beyond the usual, for which clipping is the cure."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import Sickness


def is_spiky(sick: Evidence, twin: Evidence) -> bool:
    """Largest gradient norm at least ten times the median, or not finite."""
    return sick.spikes > 10 or not sick.is_finite


SICKNESSES = (
    Sickness(
        "G1",
        "gradient_spikes",
        "rare rows in a wrong unit",
        Recipe(lr=0.02),
        "outliers",
        (0.001, 0.003, 0.005, 0.01),
        {"clip": 0.5},
        also=("input_scale",),
        oracle=is_spiky,
    ),
    Sickness(
        "G2",
        "gradient_spikes",
        "rare targets in a wrong unit",
        Recipe(loss="mse", lr=0.01),
        "target_outliers",
        (0.0015, 0.003, 0.005, 0.01),
        {"clip": 0.5},
        datasets=("friedman",),
        oracle=is_spiky,
    ),
    Sickness(
        "G3",
        "gradient_spikes",
        "rare sequences in a wrong unit, LSTM over 60 steps",
        Recipe(network="lstm", depth=1, width=32, lr=0.5),
        "outliers",
        (0.003, 0.01, 0.03),
        {"clip": 0.5},
        also=("input_scale",),
        datasets=("totals",),
        oracle=is_spiky,
    ),
    Sickness(
        "G4",
        "gradient_spikes",
        "cliffs of an LSTM over 60 steps",
        Recipe(network="lstm", depth=1, width=32, lr=1.0),
        "lr",
        (0.5, 1.0, 2.0, 4.0),
        {"clip": 0.5},
        also=("exploding", "learning_rate"),
        datasets=("totals", "digit_pixels"),
        oracle=is_spiky,
    ),
)
