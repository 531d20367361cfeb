"""Gradients that are never cleared: a fault of the loop, which only a monitor inside that loop can see."""

from ..recipe import Recipe
from .contract import WITHOUT_CANCER, Sickness

SICKNESSES = (
    Sickness(
        "A1",
        "accumulation",
        "no zero_grad, SGD",
        Recipe(),
        "zero_grad",
        (False,),
        {"zero_grad": True},
        monitor_only=True,
        curable=False,
    ),
    Sickness(
        "A2",
        "accumulation",
        "no zero_grad, Adam",
        Recipe(optimizer="adam", lr=0.002),
        "zero_grad",
        (False,),
        {"zero_grad": True},
        monitor_only=True,
        curable=False,
        datasets=WITHOUT_CANCER,
    ),
)
