"""Losses that expect something else than what the network gives out. Their oracle is the twin."""

from ..recipe import Recipe
from .contract import Sickness

RIGHT = {"loss": "cross_entropy"}
SICKNESSES = (
    Sickness(
        "M1",
        "loss_mismatch",
        "softmax before cross-entropy",
        Recipe(),
        "loss",
        ("double_softmax",),
        RIGHT,
        curable=False,
    ),
    Sickness("M2", "loss_mismatch", "NLL of logits", Recipe(), "loss", ("nll_of_logits",), RIGHT, curable=False),
    Sickness(
        "M3", "loss_mismatch", "NLL of probabilities", Recipe(), "loss", ("nll_of_probabilities",), RIGHT, curable=False
    ),
    Sickness(
        "M4", "loss_mismatch", "distance to the class number", Recipe(), "loss", ("mse_of_index",), RIGHT, curable=False
    ),
    Sickness(
        "M5",
        "loss_mismatch",
        "targets that a sigmoid cannot reach",
        Recipe(),
        "loss",
        ("sigmoid_to_unreachable",),
        RIGHT,
        curable=False,
    ),
    Sickness(
        "M6",
        "loss_mismatch",
        "softmax before cross-entropy, Adam, deep",
        Recipe(optimizer="adam", lr=0.002, depth=6),
        "loss",
        ("double_softmax",),
        RIGHT,
        curable=False,
    ),
)
