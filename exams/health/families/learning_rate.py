"""Learning rates too high and too low. Their oracle is the twin: nothing else differs."""

from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness

SICKNESSES = (
    Sickness(
        "L1",
        "learning_rate",
        "Adam, too high",
        Recipe(optimizer="adam", lr=0.002),
        "lr",
        (0.02, 0.05, 0.1, 0.3, 1.0),
        {"lr": 0.002},
    ),
    Sickness(
        "L2",
        "learning_rate",
        "SGD and tanh, too high",
        Recipe(activation="tanh"),
        "lr",
        (0.3, 0.5, 1.0, 2.0, 5.0),
        {"lr": 0.05},
        datasets=WITHOUT_CANCER,
    ),
    Sickness("L3", "learning_rate", "SGD, too low", Recipe(), "lr", (5e-3, 2e-3, 1e-3, 3e-4, 1e-4, 1e-5), {"lr": 0.05}),
    Sickness(
        "L4",
        "learning_rate",
        "Adam, too low",
        Recipe(optimizer="adam", lr=0.002),
        "lr",
        (3e-4, 1e-4, 3e-5, 1e-5, 1e-6),
        {"lr": 0.002},
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "L5",
        "learning_rate",
        "transformer, too high",
        Recipe(network="transformer", depth=2, width=32, optimizer="adam", lr=0.003),
        "lr",
        (0.02, 0.05, 0.1, 0.3),
        {"lr": 0.003},
        datasets=("digit_rows",),
    ),
    Sickness(
        "L6",
        "learning_rate",
        "convolution with BatchNorm, too low",
        Recipe(network="conv", depth=2, width=16, norm="batch"),
        "lr",
        (1e-3, 3e-4, 1e-4, 1e-5),
        {"lr": 0.05},
        datasets=("digit_images",),
    ),
    Sickness(
        "L7",
        "learning_rate",
        "LSTM over 60 steps, too high",
        Recipe(network="lstm", depth=1, width=32, optimizer="adam", lr=0.005),
        "lr",
        (0.05, 0.1, 0.3, 1.0),
        {"lr": 0.005},
        datasets=("totals",),
    ),
)
