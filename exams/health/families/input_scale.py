"""Inputs in units that the first layer cannot use."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_out_of_scale(sick: Evidence, twin: Evidence) -> bool:
    """Root mean square or unevenness of the input columns at least three times the twin's, or a third of it."""
    size = sick.input_std_max / twin.input_std_max
    return size > 3 or size < 1 / 3 or sick.input_std_ratio > 3 * twin.input_std_ratio


SICKNESSES = (
    Sickness(
        "X1",
        "input_scale",
        "inputs too large",
        Recipe(),
        "input_scale",
        (5.0, 10.0, 30.0, 100.0, 1000.0),
        {"input_scale": 1.0},
        oracle=is_out_of_scale,
    ),
    Sickness(
        "X2",
        "input_scale",
        "inputs far from zero",
        Recipe(),
        "input_shift",
        (3.0, 5.0, 10.0, 30.0, 100.0),
        {"input_shift": 0.0},
        oracle=is_out_of_scale,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "X3",
        "input_scale",
        "one column too large",
        Recipe(),
        "uneven",
        (10.0, 30.0, 100.0, 1000.0),
        {"uneven": 1.0},
        oracle=is_out_of_scale,
    ),
    Sickness(
        "X4",
        "input_scale",
        "inputs too small",
        Recipe(),
        "input_scale",
        (0.1, 0.03, 0.01, 0.001),
        {"input_scale": 1.0},
        oracle=is_out_of_scale,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "X5",
        "input_scale",
        "inputs too large, Adam and tanh",
        Recipe(optimizer="adam", lr=0.002, activation="tanh"),
        "input_scale",
        (10.0, 30.0, 100.0, 1000.0),
        {"input_scale": 1.0},
        also=("saturation",),
        oracle=is_out_of_scale,
        datasets=WITHOUT_CANCER,
    ),
)
