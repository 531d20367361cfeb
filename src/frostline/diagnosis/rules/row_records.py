"""What rows and targets say without a network, and what a network makes of them. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeartFacts:
    """What a network makes of the rows that it was trained on, and of others; and how often these rows come.

    Attributes:
        trained: Its score on rows that it was trained on: right answers, or explained variance.
        held_out: The same on held-out rows.
        trained_loss: Its loss on rows that it was trained on.
        held_out_loss: The same on held-out rows.
        rows: How many different rows of real numbers were trained on; 0 of words and categories alone.
        times: How often the usual one of them came.
        in_a_row: How often the usual batch comes before another one does; 1 where each is another.
    """

    trained: float
    held_out: float
    trained_loss: float
    held_out_loss: float
    rows: int = 0
    times: float = 1.0
    in_a_row: float = 1.0


@dataclass(frozen=True)
class NumberFacts:
    """Targets that are whole numbers, one for each row, and how well two linear models give them on other rows.

    Attributes:
        count: How many different ones there are.
        as_classes: Share of right answers of a classifier.
        as_quantity: The same of a regression, rounded.
    """

    count: int
    as_classes: float
    as_quantity: float


@dataclass(frozen=True)
class ClassFacts:
    """Targets that are classes, one for each sample.

    Attributes:
        count: How many there are.
        first: The first target.
        per_batch: How many classes a batch holds, on average; None where batches are too small to say.
        if_shuffled: How many it would, if its samples were drawn at random.
    """

    count: int
    first: int
    per_batch: float | None = None
    if_shuffled: float | None = None


@dataclass(frozen=True)
class RowFacts:
    """Rows that give their target away, that come with several, or that are in another unit later on.

    Attributes:
        answer_at: The feature that is the target of every row, up to a factor and an offset; None without one.
        factor: Of it.
        num_features: Of a row.
        torn: Share of the rows whose input comes with another target as well.
        torn_targets: Two targets of one input; None without one.
        first_size: Root mean square of the usual input in the first batches; 0 if not known.
        last_size: The same in the last ones.
    """

    answer_at: int | None = None
    factor: float = 0.0
    num_features: int = 0
    torn: float = 0.0
    torn_targets: tuple[float, float] | None = None
    first_size: float = 0.0
    last_size: float = 0.0
