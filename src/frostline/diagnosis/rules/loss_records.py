"""How a loss behaves on outputs that are made for it, as plain numbers. No torch in here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LossDomain:
    """What a loss takes, asked at outputs that were made for it.

    Attributes:
        largest_target: The largest target, where the loss has no floor because targets go beyond 1; else None.
        is_soft: True if a target is shares of a whole over several classes.
        is_improper: True if outputs that are surer than such a target cost less and less.
        falls_with_all: True if a loss of classes falls without end as all outputs grow together.
        needs_positive: True if the loss is finite for outputs above 0, and not for those below.
        breaks_at_bounds: True if outputs are shares, by a sigmoid or softmax, and the loss of an exact 0 or 1 is not
            finite.
        is_column: True if targets are a column of labels by number, of rows of several outputs.
        uncounted: (class, share of the rows) of classes whose rows the loss does not count.
    """

    largest_target: float | None = None
    is_soft: bool = False
    is_improper: bool = False
    falls_with_all: bool = False
    needs_positive: bool = False
    breaks_at_bounds: bool = False
    is_column: bool = False
    uncounted: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class LossTerms:
    """What a loss counts, asked at outputs that were made for it.

    Attributes:
        columns: (columns of the target that change the loss, and for no output its slope; that change neither; all).
        weights: (class, share of the rows, weight of a row over the largest) of classes, the rarest first; none where
            that could not be asked.
        logit_range: By how much logits of right and wrong can differ, where the outputs are embeddings of length 1 and
            the loss can hardly fall; None elsewhere.
    """

    columns: tuple[int, int, int] = (0, 0, 0)
    weights: tuple[tuple[int, float, float], ...] = ()
    logit_range: float | None = None


@dataclass(frozen=True)
class OutputBound:
    """An output that many rows have on a bound, beyond which the loss would fall further.

    Attributes:
        name: Of the output, or its column.
        value: The bound.
        share: Of its values.
    """

    name: str
    value: float
    share: float


@dataclass(frozen=True)
class Summand:
    """A term of a loss that is a sum: at the first batch, before training and after it.

    Attributes:
        name: The function that gives it, with its line of code where that is known.
        first: Its share of the loss before training: its value, with its factor and sign.
        last: The same after training.
        slope: Norm of its gradient at the weights before training, over that of the largest term; None where it has
            none, though its value changes with the weights.
        last_slope: The same after training.
        is_of_rows: True if its value changes where rows get the targets of others; without targets, with the rows.
        rare: Share of the batches in which it is exactly 0, of those that were asked.
        against: The cosine of its gradient with that of all other terms, before training.
        last_against: The same after training.
    """

    name: str
    first: float
    last: float
    slope: float | None
    last_slope: float | None
    is_of_rows: bool = True
    rare: float = 0.0
    against: float = 0.0
    last_against: float = 0.0


@dataclass(frozen=True)
class OwnTargets:
    """Outputs that the loss reads without a gradient, as targets, and copies of trained parts that never move.

    Attributes:
        made: Names of the outputs, or columns.
        is_moving: True if these change with the weights that are trained.
        copy: The module that is, before training, a copy of one that trains, and that stays as it is; "" without one.
        source: The module that it is a copy of.
    """

    made: tuple[str, ...] = ()
    is_moving: bool = False
    copy: str = ""
    source: str = ""


@dataclass(frozen=True)
class LossAim:
    """Where a loss leads outputs that are free to move.

    Attributes:
        kind: `classes`, `values` or `labels` by the targets, `embeddings` by the loss, `ignored` where it takes no
            notice of the targets; "" where that could not be asked.
        right: Of outputs that began without an answer, the share that is right in the end; None elsewhere.
        classes: How many the targets hold.
        asked: Share of these targets that count in the loss.
        lost: Columns of real targets that outputs near them were not brought nearer to.
        columns: All of them; of many, all values are one.
        instead: What the first of these was led to, in words; "" where that is not known.
        counted: (share of the targets that count in the loss, what all of these are), where the others vary; else None.
        unbounded: Of several outputs, or columns, the one along whose slope the loss falls without end; "" without one.
        flat: The share of wrong outputs that get no slope, of those that get one elsewhere; 0 if few do.
        spread: Of embeddings: how far rows of one class end apart, over those of several; None elsewhere.
        loudest: (column, of how many, times) of an output whose slope is by far the largest; None without one.
        reward: Correlation of the slope at the action that was taken with its reward; 0 where there are none.
    """

    kind: str = ""
    right: float | None = None
    classes: int = 0
    asked: float = 1.0
    lost: tuple[int, ...] = ()
    columns: int = 0
    instead: str = ""
    counted: tuple[float, float] | None = None
    unbounded: str = ""
    flat: float = 0.0
    spread: float | None = None
    reward: float = 0.0
    loudest: tuple[int, int, float] | None = None


@dataclass(frozen=True)
class LossFacts:
    """How the loss behaves on made outputs, without the model.

    Attributes:
        kind: `classes` or `values`, by the targets; `unknown` if the loss could not be probed.
        prefers_right: True if right outputs cost less than wrong ones.
        slope_when_wrong: Slope at a confident wrong output over the slope at a neutral one.
        is_bounded: False if a more and more confident right output costs less without end.
        is_finite: False if a confident output gives a loss or a slope that is not finite.
        stuck_share: Share of what the loss could still fall that the range of the model's outputs forbids.
        out_of_reach: Share of real targets outside of the range that the model's last function can give.
        reach: Lowest and highest answer that it can give.
        is_fixed: True if the model's last function gives the same whatever it is given: a softmax over one value.
        pairs_all: True if the loss compares every answer with every target of the batch.
        is_floorless: True if answers that are no probabilities, of a model that gives probabilities, would make the
            loss fall without end.
        has_several: True if several labels of a sample are true at once, and the model shares out a whole.
        follows_shift: True if the loss stays where outputs and targets move together (squared and absolute error);
            None if not known.
        degree: Power of the error that the loss grows with, where it follows shifts: 2 for squared error.
        last: The model's last function: `softmax`, `sigmoid`, `tanh`, `relu`; "" for none of these.
        ignores_shifts: True if several labels of a sample are true at once, and the loss stays where all logits of a
            sample move together: it makes one label the rival of the others.
        wants_probabilities: True if the loss takes values from 0 to 1 and nothing else, and the model gives others.
        domain: What else it takes.
        terms: What it counts.
        aim: Where it leads.
        joined: Shapes (N, 1) and (N,) that it combines, one of the output and one not; None without such.
    """

    kind: str
    prefers_right: bool = True
    slope_when_wrong: float = 1.0
    is_bounded: bool = True
    is_finite: bool = True
    stuck_share: float = 0.0
    out_of_reach: float = 0.0
    reach: tuple[float, float] = (-math.inf, math.inf)
    is_fixed: bool = False
    pairs_all: bool = False
    is_floorless: bool = False
    has_several: bool = False
    follows_shift: bool | None = None
    degree: float = 2.0
    last: str = ""
    ignores_shifts: bool = False
    wants_probabilities: bool = False
    domain: LossDomain = field(default_factory=LossDomain)
    terms: LossTerms = field(default_factory=LossTerms)
    aim: LossAim = field(default_factory=LossAim)
    joined: tuple[tuple[int, ...], tuple[int, ...]] | None = None
