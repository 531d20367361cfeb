"""Losses that expect something else than what the network gives out. Their oracle is the twin."""

from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness

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
        "M3",
        "loss_mismatch",
        "NLL of shares",
        Recipe(),
        "loss",
        ("nll_of_probabilities",),
        RIGHT,
        curable=False,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "M4",
        "loss_mismatch",
        "distance to the index",
        Recipe(),
        "loss",
        ("mse_of_index",),
        RIGHT,
        curable=False,
        datasets=WITHOUT_CANCER,
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
        datasets=WITHOUT_CANCER,
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
        datasets=WITHOUT_CANCER,
    ),
)
