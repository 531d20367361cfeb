"""What a sickness is to the exam: one factor of a healthy training, turned up in steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..oracles import Evidence
from ..recipe import Recipe

TABULAR = ("blobs", "circles", "digits", "cancer")
WITHOUT_CANCER = ("blobs", "circles", "digits")  # for the second and third sickness of a family
SEQUENCES = ("waves", "totals")

Oracle = Callable[[Evidence, Evidence], bool]


def anything(sick: Evidence, twin: Evidence) -> bool:
    """For sicknesses that are defined by their undo alone: the learning rate, the loss."""
    return True


@dataclass(frozen=True)
class Sickness:
    """One way to make a training sick.

    Attributes:
        code: Short name, `V1`.
        family: The library's name of the family, `vanishing`.
        title: What is wrong, in a few words.
        base: The healthy training, without data and seed.
        knob: The field of `Recipe` that carries the sickness.
        values: Its values, mild to wild; the severity of each is measured, not declared (`truth.py`).
        undo: The fields that make a sick training its own healthy twin; nothing else differs.
        also: Other families that name the same fault rightly, apart from those that the undo rule finds.
        fixed: Fields that every sick training shares and the twin does not.
        datasets: Where it is tried.
        oracle: True if the mechanism is seen in float64, given the sick and the twin's evidence.
        curable: False where only the user can mend it, so that a repair is advice at best.
        monitor_only: True where the fault is in the user's loop, which a checkup replaces by its own.
    """

    code: str
    family: str
    title: str
    base: Recipe
    knob: str
    values: tuple[Any, ...]
    undo: Mapping[str, Any]
    also: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[str, ...] = TABULAR
    oracle: Oracle = anything
    curable: bool = True
    monitor_only: bool = False

    def sick(self, dataset: str, seed: int, value: object) -> Recipe:
        """The sick training at one value of the knob."""
        return replace(self.base, **{**self.fixed, "dataset": dataset, "seed": seed, self.knob: value})

    def twin(self, dataset: str, seed: int, value: object) -> Recipe:
        """The same training with the fault undone and everything else kept."""
        return replace(self.sick(dataset, seed, value), **self.undo)
