"""Activations or gradients that grow through the layers or through time."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_exploding(sick: Evidence, twin: Evidence) -> bool:
    """Outputs or gradients ten times the twin's at the start, or something not finite that the twin does not have."""
    grown = sick.output_std_0 > 10 * twin.output_std_0 or sick.gradient_norm_0 > 10 * twin.gradient_norm_0
    return grown or (twin.is_finite and not sick.is_finite)


def is_exploding_in_time(sick: Evidence, twin: Evidence) -> bool:
    """Gradient norms a hundred times their median, which clipping (the twin) makes harmless."""
    return sick.spikes > 10 or sick.gradient_norm_0 > 10 or not sick.is_finite


SICKNESSES = (
    Sickness(
        "E1",
        "exploding",
        "deep ReLU, large weights",
        Recipe(depth=10, lr=0.02),
        "gain",
        (1.2, 1.3, 1.4, 1.6, 2.0, 3.0),
        {"gain": 1.0},
        also=("initialization",),
        oracle=is_exploding,
    ),
    Sickness(
        "E2",
        "exploding",
        "ReLU, very large weights",
        Recipe(depth=6),
        "gain",
        (1.5, 1.7, 1.8, 2.0, 3.0),
        {"gain": 1.0},
        also=("initialization",),
        oracle=is_exploding,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "E3",
        "exploding",
        "deep ReLU, large weights, Adam",
        Recipe(depth=10, optimizer="adam", lr=0.002),
        "gain",
        (1.5, 2.0, 4.0, 8.0),
        {"gain": 1.0},
        also=("initialization",),
        oracle=is_exploding,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "R1",
        "exploding",
        "GRU over 60 steps, large recurrent weights",
        Recipe(network="gru", depth=1, width=32, lr=0.3),
        "gain",
        (3.5, 4.0, 5.0),
        {"clip": 1.0},
        also=("gradient_spikes", "initialization"),
        datasets=("totals",),
        oracle=is_exploding_in_time,
    ),
    Sickness(
        "R2",
        "exploding",
        "LSTM over 60 steps, large recurrent weights",
        Recipe(network="lstm", depth=1, width=32, lr=0.5),
        "gain",
        (1.0, 3.0, 4.0, 6.0),
        {"clip": 1.0},
        also=("gradient_spikes", "initialization"),
        datasets=("totals",),
        oracle=is_exploding_in_time,
    ),
    Sickness(
        "R3",
        "exploding",
        "plain recurrent net over 60 steps",
        Recipe(network="rnn", depth=1, width=32, lr=0.05),
        "gain",
        (0.9, 1.3, 1.6, 2.0),
        {"clip": 0.5},
        also=("gradient_spikes", "initialization"),
        datasets=("totals",),
        oracle=is_exploding_in_time,
    ),
)
