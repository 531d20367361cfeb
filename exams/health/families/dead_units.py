"""ReLU units that are zero for every row."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_dead(sick: Evidence, twin: Evidence) -> bool:
    """More than half of a layer's units silent on all training rows, at the start or at the end."""
    return max(sick.dead_0, sick.dead) > 0.5 and twin.dead <= 0.5


SICKNESSES = (
    Sickness(
        "D1",
        "dead_units",
        "negative biases",
        Recipe(depth=4),
        "bias",
        (-0.3, -0.35, -0.4, -0.7, -1.0, -1.3, -1.6, -2.0, -3.0),
        {"bias": 0.0},
        also=("initialization",),
        oracle=is_dead,
    ),
    Sickness(
        "D2",
        "dead_units",
        "killed by the learning rate",
        Recipe(depth=4),
        "lr",
        (0.15, 0.17, 0.2, 0.3, 0.5, 1.0),
        {"lr": 0.05},
        also=("learning_rate",),
        oracle=is_dead,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "D3",
        "dead_units",
        "negative biases, Adam",
        Recipe(depth=4, optimizer="adam", lr=0.002),
        "bias",
        (-0.35, -0.4, -0.5, -0.7, -1.0, -1.5, -2.0),
        {"bias": 0.0},
        also=("initialization",),
        oracle=is_dead,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "D4",
        "dead_units",
        "negative biases in a convolution",
        Recipe(network="conv", depth=3, width=16),
        "bias",
        (-0.5, -0.6, -0.7, -1.0, -2.0),
        {"bias": 0.0},
        also=("initialization",),
        datasets=("digit_images",),
        oracle=is_dead,
    ),
)
