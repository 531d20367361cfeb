"""Something that is not a number gets in, or is made."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_poisoned(sick: Evidence, twin: Evidence) -> bool:
    """A loss or a gradient that is not finite, unlike the twin's."""
    return twin.is_finite and not sick.is_finite


SICKNESSES = (
    Sickness(
        "N1", "nonfinite", "rows with a NaN", Recipe(), "nan_rows", (1, 3, 10), {"nan_rows": 0}, oracle=is_poisoned
    ),
    Sickness(
        "N2",
        "nonfinite",
        "logarithm of zero in the loss",
        Recipe(),
        "loss",
        ("log_of_rounded_1", "log_of_rounded_4", "log_of_rounded_16"),
        {"loss": "cross_entropy"},
        also=("loss_mismatch",),
        oracle=is_poisoned,
        curable=False,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "N3",
        "nonfinite",
        "float16 overflow in the loss",
        Recipe(),
        "loss",
        ("half_softmax_1", "half_softmax_4", "half_softmax_16"),
        {"loss": "cross_entropy"},
        also=("loss_mismatch",),
        oracle=is_poisoned,
        curable=False,
        datasets=WITHOUT_CANCER,
    ),
)
