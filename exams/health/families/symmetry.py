"""Units that start equal and therefore stay equal."""

from ..oracles import Evidence
from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness


def is_symmetric(sick: Evidence, twin: Evidence) -> bool:
    """Fewer than half of a layer's units distinct at the start, all of the twin's."""
    return sick.distinct_0 < 0.5 and twin.distinct_0 > 0.99


SICKNESSES = (
    Sickness(
        "I1",
        "symmetry",
        "all weights zero",
        Recipe(),
        "init",
        ("zeros",),
        {"init": "fitting"},
        also=("initialization",),
        oracle=is_symmetric,
    ),
    Sickness(
        "I2",
        "symmetry",
        "all weights the same",
        Recipe(),
        "gain",
        (0.01, 0.05, 0.1, 0.3),
        {"init": "fitting", "gain": 1.0},
        also=("initialization",),
        fixed={"init": "constant"},
        oracle=is_symmetric,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "I3",
        "symmetry",
        "units copied from a few",
        Recipe(),
        "clones",
        (12, 8, 6, 4, 3, 2, 1),
        {"clones": 0},
        also=("initialization",),
        oracle=is_symmetric,
        datasets=WITHOUT_CANCER,
    ),
    Sickness(
        "I4",
        "symmetry",
        "channels copied from a few",
        Recipe(network="conv", depth=3, width=16),
        "clones",
        (7, 6, 4, 3, 2, 1),
        {"clones": 0},
        also=("initialization",),
        datasets=("digit_images",),
        oracle=is_symmetric,
    ),
)
