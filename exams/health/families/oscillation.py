"""Trainings that swing instead of settling, without collapsing."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_swinging(sick: Evidence, twin: Evidence) -> bool:
    """The loss rises between at least three of ten neighbouring tenths, more often than the twin's."""
    return sick.is_finite and sick.reversals >= 0.3 and sick.reversals > twin.reversals


SICKNESSES = (
    Sickness(
        "O1",
        "oscillation",
        "too much momentum",
        Recipe(),
        "momentum",
        (0.98, 0.99, 0.995, 0.999),
        {"momentum": 0.9},
        also=("learning_rate",),
        oracle=is_swinging,
    ),
    Sickness(
        "O2",
        "oscillation",
        "tanh, too much momentum",
        Recipe(activation="tanh"),
        "momentum",
        (0.98, 0.99, 0.995, 0.999),
        {"momentum": 0.9},
        also=("learning_rate",),
        oracle=is_swinging,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "O3",
        "oscillation",
        "small batches at a high rate",
        Recipe(batch_size=8, lr=0.02, steps=600),
        "lr",
        (0.05, 0.07, 0.1, 0.15, 0.2),
        {"lr": 0.02},
        also=("learning_rate",),
        datasets=WITHOUT_CANCER,
        oracle=is_swinging,
    ),
)
