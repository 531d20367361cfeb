"""Records of what selection finds. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.core.summaries import as_json, sweep_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.core.records import Epoch


@dataclass(frozen=True)
class SweepRow:
    """One head of a sweep.

    Attributes:
        number: Its position among the settings, from 0.
        settings: As they were given.
        score: The metric (without one, minus the validation loss) of its best epoch; NaN if it diverged.
        val_loss: Of that epoch.
        train_loss: Of that epoch.
        best_epoch: Counted from 1; 0 if it diverged. A solved head has one.
        epochs: That it was trained for.
        outcome: `trained`, `stopped` (by halving), `diverged` or `solved`.
        way: How it was computed: `flat`, `stacked`, `looped` or `closed form`.
    """

    number: int
    settings: Mapping[str, Any]
    score: float
    val_loss: float
    train_loss: float
    best_epoch: int
    epochs: int
    outcome: str
    way: str


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What `sweep` found.

    Attributes:
        best: The best row; its weights are in the model, unless `apply=False`.
        table: All rows, best first.
        history: The epochs of each head, in the order of the settings.
        metric: What ranks the rows, higher is better.
        samples: Rows that the heads were trained on.
        held_out: Rows that they were compared on.
        elapsed_s: Seconds of the whole call.
        notes: What the model does not hold, or may not have been meant.
    """

    best: SweepRow
    table: tuple[SweepRow, ...]
    history: tuple[tuple[Epoch, ...], ...]
    metric: str
    samples: int
    held_out: int
    elapsed_s: float
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> tuple[float, ...]:
        """The score of each head, in the order of the settings; NaN if it diverged."""
        return tuple(row.score for row in sorted(self.table, key=lambda row: row.number))

    def to_json(self) -> str:
        """The result as one JSON object; numbers that are not finite are null."""
        return as_json(self)

    def __str__(self) -> str:
        return sweep_text(self)

    __repr__ = __str__
