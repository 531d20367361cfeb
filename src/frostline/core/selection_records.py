"""Records of what selection finds. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.core.summaries import as_json, depth_picture, depth_text, ranking_text, sweep_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.core.records import Epoch


EVERYTHING = "(train everything)"  # how the line is named at which nothing is frozen


@dataclass(frozen=True)
class DepthRow:
    """One line at which the model could be frozen.

    Attributes:
        through: What `freeze(through=)` takes; None where nothing is frozen, whose scores are those of the inputs.
        probe: Score of a cross-validated linear probe on the features at this line, None without any.
        probe_error: Its standard error over bootstrap resamples of held-out predictions.
        knn: Score of the five nearest neighbours.
        logme: LogME, log evidence per sample.
        hscore: H-score; None for numbers.
        regularized_hscore: H-score with a shrunk covariance; None for numbers.
        effective_rank: In how many directions the features spread.
        num_trainable: Elements of the parameters above the line.
        bytes_per_sample: What a cache stores for each sample.
        epoch_s: Seconds of an epoch over all training data without a cache, estimated from a measured step.
        cached_epoch_s: The same with one.
        total_s: Seconds of the whole training with a cache, its filling included; without one for the bottom line.
        energy: Mean square of what the BatchNorm layers below this line are given, by their running statistics: 1 on
            the data of pretraining. None without such layers.
        why_not: Why the model cannot be frozen here; "" if it can.
        reachable: Share of the targets' variance (R2, the mean over columns; of classes, columns of zeros and ones)
            that a linear model explains on samples it was not fitted on, from the features at this line and at all
            above it together: what layers that train from here can reach. The line is chosen by it. None without any.
        reachable_error: Standard error of its difference from the line that reaches most, on the same samples; 0 there.
    """

    through: str | None
    probe: float | None = None
    probe_error: float | None = None
    knn: float | None = None
    logme: float | None = None
    hscore: float | None = None
    regularized_hscore: float | None = None
    effective_rank: float | None = None
    num_trainable: int = 0
    bytes_per_sample: int = 0
    epoch_s: float | None = None
    cached_epoch_s: float | None = None
    total_s: float | None = None
    energy: float | None = None
    why_not: str = ""
    reachable: float | None = None
    reachable_error: float | None = None

    @property
    def name(self) -> str:
        """The layer, or that everything trains."""
        return EVERYTHING if self.through is None else self.through


@dataclass(frozen=True, repr=False)
class DepthReport:
    """How many layers to reuse, and what it rests on; `print` it.

    Attributes:
        best: The layer to freeze through: the deepest line that reaches as much as any, within one standard error of
            the difference, or at which a probe makes hardly an error. None where training everything is the better
            advice; `reason` explains it.
        table: One row per line, from the bottom (everything trains) to the top (only the output layer trains).
        advice: What to do, with the numbers it rests on, in one paragraph.
        reason: Why this line was chosen, or none.
        metric: What probe and neighbours score: `accuracy`, `balanced accuracy`, `mean F1` or `R2`.
        baseline: What a constant prediction scores.
        samples: Samples on which the lines were scored.
        epochs: Epochs of the training whose time `total_s` is.
        notes: What was left out or could not be measured.
    """

    best: str | None
    table: tuple[DepthRow, ...]
    advice: str
    reason: str
    metric: str
    baseline: float
    samples: int
    epochs: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All fields as one JSON object; numbers that are not finite are null."""
        return as_json(self)

    def svg(self) -> str:
        """What each line reaches, with two standard errors of its difference from the best, as an SVG picture."""
        return depth_picture(self)

    def __str__(self) -> str:
        return depth_text(self)

    __repr__ = __str__


@dataclass(frozen=True)
class RankedModel:
    """One model of a ranking.

    Attributes:
        name: What it was called by.
        score: The probe's score at its best line.
        low: Lower end of the 95% interval of `score`, by bootstrap.
        high: Upper end.
        line: The line of that score; None is the inputs.
        behind: By how much it is behind the first, with the 95% interval of that difference on the same samples.
        is_tied: True if that interval holds 0: the two cannot be separated by these samples.
        report: What `choose_depth` returns for it.
    """

    name: str
    score: float
    low: float
    high: float
    line: str | None
    behind: tuple[float, float, float]
    is_tied: bool
    report: DepthReport


@dataclass(frozen=True, repr=False)
class ModelRanking:
    """Which pretrained model to start from; `print` it.

    Attributes:
        best: Name of the first model; None where the samples do not separate it from another one.
        table: The models, the best first.
        advice: What to do, in one paragraph.
        metric: What is scored.
        samples: Samples on which the models were scored.
    """

    best: str | None
    table: tuple[RankedModel, ...]
    advice: str
    metric: str
    samples: int

    def to_json(self) -> str:
        """All fields as one JSON object."""
        return as_json(self)

    def __str__(self) -> str:
        return ranking_text(self)

    __repr__ = __str__


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
