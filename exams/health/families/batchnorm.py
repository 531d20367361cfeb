"""Running statistics of BatchNorm that do not describe what the network computes in eval mode."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness, anything


def has_gap(sick: Evidence, twin: Evidence) -> bool:
    """More than 5 points between train-mode and eval-mode score on the same rows, gone with exact statistics."""
    return sick.bn_gap > 0.05 and sick.bn_gap_exact < 0.05


SICKNESSES = (
    Sickness(
        "B1",
        "batchnorm",
        "running statistics too slow",
        Recipe(norm="batch"),
        "bn_momentum",
        (0.01, 0.005, 0.003, 0.001, 0.0003, 0.0),
        {"bn_momentum": 0.1},
        oracle=has_gap,
    ),
    Sickness(
        "B2",
        "batchnorm",
        "batches too small",
        Recipe(norm="batch", lr=0.01, steps=600),
        "batch_size",
        (2, 3, 4),
        {"norm": "layer"},
        oracle=anything,  # statistics of two rows are noise in training too: not only a gap
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "B3",
        "batchnorm",
        "running statistics too slow, convolution",
        Recipe(network="conv", depth=2, width=16, norm="batch"),
        "bn_momentum",
        (0.01, 0.005, 0.003, 0.001, 0.0003, 0.0),
        {"bn_momentum": 0.1},
        datasets=("digit_images",),
        oracle=has_gap,
    ),
    Sickness(
        "B4",
        "batchnorm",
        "running statistics of the last batch only, small batches",
        Recipe(norm="batch", batch_size=4, lr=0.01),
        "bn_momentum",
        (0.9, 1.0),
        {"bn_momentum": 0.05},
        oracle=has_gap,
        datasets=WITHOUT_CANCER,
    ),
)
