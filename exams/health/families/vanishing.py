"""Gradients that shrink on their way to the first layers."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_vanishing(sick: Evidence, twin: Evidence) -> bool:
    """First over last gradient norm below 1e-4 (the twin's above 1e-2), or the first below 1% of the twin's."""
    falls = sick.gradient_ratio_0 < 1e-4 and twin.gradient_ratio_0 > 1e-2
    return falls or sick.first_norm_0 < 0.01 * twin.first_norm_0


SICKNESSES = (
    Sickness(
        "V1",
        "vanishing",
        "deep sigmoid",
        Recipe(),
        "depth",
        (5, 6, 7, 8, 10),
        {"activation": "relu"},
        fixed={"activation": "sigmoid"},
        oracle=is_vanishing,
    ),
    Sickness(
        "V2",
        "vanishing",
        "deep ReLU, small weights",
        Recipe(depth=8),
        "gain",
        (0.6, 0.5, 0.45, 0.4, 0.3, 0.2),
        {"gain": 1.0},
        also=("initialization",),
        oracle=is_vanishing,
    ),
    Sickness(
        "V3",
        "vanishing",
        "deep tanh, small weights",
        Recipe(depth=10, activation="tanh"),
        "gain",
        (0.7, 0.6, 0.5, 0.4, 0.3),
        {"gain": 1.0},
        also=("initialization",),
        oracle=is_vanishing,
    ),
    Sickness(
        "V4",
        "vanishing",
        "deep sigmoid, Adam",
        Recipe(optimizer="adam", lr=0.002),
        "depth",
        (5, 6, 8, 10, 12),
        {"activation": "relu"},
        fixed={"activation": "sigmoid"},
        oracle=is_vanishing,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "V5",
        "vanishing",
        "deep convolution, small weights",
        Recipe(network="conv", depth=6, width=12),
        "gain",
        (0.6, 0.5, 0.45, 0.4, 0.3, 0.2),
        {"gain": 1.0},
        also=("initialization",),
        datasets=("digit_images",),
        oracle=is_vanishing,
    ),
)
