"""What the monitor measures, as plain numbers. No torch in here: rules and files read these records.

Shares are 0 to 1. Norms are 2-norms. None: not measured, or nothing to measure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from frostline.diagnosis.rules.loss_records import LossFacts, OutputBound, OwnTargets, Summand
from frostline.diagnosis.rules.row_records import ClassFacts, HeartFacts, NumberFacts, RowFacts
from frostline.diagnosis.rules.wiring_records import (
    AxesFacts,
    CounterpartFacts,
    LoopFacts,
    ModeFacts,
    OutsideFacts,
    PlaceFacts,
    ReachFacts,
    ShiftFacts,
    ShuffleFacts,
    SideEffects,
    SignalFacts,
    SlopeFacts,
)


@dataclass(frozen=True)
class Layer:
    """What a layer is.

    Attributes:
        name: Its qualified name in the model.
        kind: `linear`, `convolution`, `recurrent`, `attention`, `embedding`, `norm`, `activation` or `other`.
        activation: `relu`, `tanh`, ... for an activation, else "".
        order: Its place in the order in which the layers ran.
        is_frozen: True if it has parameters and none of them trains.
        is_output: True for the last layer with weights, and others whose output leaves the model: it goes to the loss.
        type: Its class and sizes, `Linear, 784 to 64`.
        starts_at_zero: True if all its weights were zero before the first step (LoRA's second matrix, a zero head).
        is_held: True if a scale in its block started at zero or near it (LayerScale, the last norm of a branch).
    """

    name: str
    kind: str
    activation: str
    order: int
    is_frozen: bool
    is_output: bool
    type: str = ""
    starts_at_zero: bool = False
    is_held: bool = False

    @property
    def has_weights(self) -> bool:
        """True for layers that map features to features: those that pass gradients on."""
        return self.kind in {"linear", "convolution", "recurrent", "attention"}


@dataclass(frozen=True)
class LayerSample:
    """One layer at one sampled step.

    Attributes:
        layer: Qualified name.
        gradient_norm: Of its own parameters together, before the step.
        weight_norm: Of its own parameters together.
        update_ratio: Norm of what the optimizer changed over the norm of the parameters.
        mean: Mean of its output.
        deviation: Standard deviation of its output.
        dead: Share of units that were zero for every sample of the last sampled steps (rectifiers).
        saturated: Share of outputs where the slope is below a hundredth of the steepest (tanh, sigmoid).
        constant: Share of units with the same value for every sample of the batch.
    """

    layer: str
    gradient_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    mean: float | None = None
    deviation: float | None = None
    dead: float | None = None
    saturated: float | None = None
    constant: float | None = None


@dataclass(frozen=True)
class StepRecord:
    """One sampled step.

    Attributes:
        step: Optimizer steps before it.
        loss: Its loss.
        gradient_norm: Of all parameters together.
        layers: One sample per layer that was seen.
        nonfinite: The first layer, in the order of the forward pass, whose output was not finite; `input` for the
            model's input, `target` for the batch's target, `gradient` if only a gradient was; None if everything
            was finite.
        nonfinite_samples: Positions in the batch of the samples that were not finite there.
    """

    step: int
    loss: float | None
    gradient_norm: float | None
    layers: tuple[LayerSample, ...]
    nonfinite: str | None = None
    nonfinite_samples: tuple[int, ...] = ()


@dataclass(frozen=True)
class InputFacts:
    """The model's float input, over the samples that were seen.

    Attributes:
        mean: Of all values.
        deviation: Of all values.
        largest: Largest absolute value.
        widest: Largest root mean square of a feature.
        offset: Largest absolute mean of a feature, in units of its deviation, or of the median one if that is larger.
        unevenness: Largest over median deviation of the features that vary.
        is_normalised: True if the first layer that ran is a normalisation.
        outlier: Largest absolute value over the usual one of a sample.
        name: Of the input, where the model takes several; else "".
        row_size: Norm of the usual row of features: of a one-hot row 1, though each feature is hardly ever above 0.
    """

    mean: float
    deviation: float
    largest: float
    widest: float
    offset: float
    unevenness: float
    is_normalised: bool
    outlier: float
    name: str = ""
    row_size: float = 0.0


@dataclass(frozen=True)
class OutlierFacts:
    """Rare rows that are far larger than the usual one.

    Attributes:
        what: `input` or `target`.
        ratio: Size of the largest row over that of the usual one.
        share: Of the rows that were given.
        step: The first batch with such rows.
        samples: Their positions in it.
    """

    what: str
    ratio: float
    share: float
    step: int
    samples: tuple[int, ...]


@dataclass(frozen=True)
class TargetFacts:
    """Real targets, those far out of the data left aside: mean and deviation of all values."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class NormFacts:
    """The BatchNorm layers of a model.

    Attributes:
        layers: Their names.
        smallest_batch: Fewest values per channel that statistics were taken of.
        momentum: The smallest momentum of a layer that updates its statistics.
        train_loss: On the same samples, with the statistics of the batch.
        eval_loss: With the running statistics.
        exact_loss: With the statistics of all samples that were given.
        moving_in_frozen: Layers without trainable parameters whose statistics still move.
        num_samples: Of the usual batch.
    """

    layers: tuple[str, ...] = ()
    smallest_batch: int | None = None
    momentum: float | None = None
    train_loss: float | None = None
    eval_loss: float | None = None
    exact_loss: float | None = None
    moving_in_frozen: tuple[str, ...] = ()
    num_samples: int | None = None


@dataclass(frozen=True)
class RateFacts:
    """How the learning rate went.

    Attributes:
        highest: The highest rate so far.
        sunk_at: The step after which it was under a thousandth of that for good; None if it was not.
        steps: All steps so far.
        restarts: How often a rising rate fell back to where it began; 0 for any other course.
    """

    highest: float
    sunk_at: int | None
    steps: int
    restarts: int = 0


@dataclass(frozen=True)
class OptimizerFacts:
    """How the weights are moved.

    Attributes:
        lr: The largest learning rate, or None without an optimizer.
        momentum: Of SGD, or None.
        is_scheduled: True if a schedule drives the learning rate.
        is_scale_free: True if the size of the gradients does not matter (Adam and its kin).
        weight_decay: The largest of its groups.
    """

    lr: float | None = None
    momentum: float | None = None
    is_scheduled: bool = False
    is_scale_free: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """Everything that rules judge by.

    Attributes:
        layers: In the order in which they ran.
        records: Sampled steps, oldest first.
        losses: (step, loss) of every step that was reported.
        gradient_norms: Of every step, where `checkup` or `heal` measured them.
        optimizer: How the weights are moved.
        inputs: The model's input, or None if it is not float.
        outliers: Rows that are far out of the data, or None if there are none or nobody looked.
        targets: Real targets, or None if there are none or nobody looked.
        classes: Targets that are classes, or None if they are not, or nobody looked.
        only_target: (the one value that all targets have, how many a row has); None if they differ, or nobody looked.
        numbers: Real targets that are whole numbers; None if they are not, or nobody looked.
        rows: What the rows say without a model; None if nobody looked.
        follows: How far outputs change with the inputs, over their spread at the same noise: before training, after it;
            None if nobody looked.
        directions: How far outputs of different rows point apart, 0 to 1: before training, after it. None where the
            loss sees more of them than their directions, or nobody looked.
        inputs_vary: False if all inputs of a batch are the same; None if nobody looked, or the batch is small.
        loss: How the loss behaves, or None if it was not probed.
        bound: An output that is held at a bound; None without one.
        norms: The BatchNorm layers, or None if there is none or they were not compared.
        alike: Layers with units that are the same, and stay so: share of units that are copies, by name.
        has_accumulated: True if gradients were added up over optimizer steps; None if it could not be seen.
        loop: What the loop does with losses and gradients; None without an optimizer.
        skill: How much better the model is than the constant-prediction baseline on held-out samples: the share by
            which its loss is lower, or its share of correct outputs is larger, whichever is more; None if not known.
        right: What is right of them beyond this baseline, of all that could be; None where only losses can be compared.
        level: Loss of the constant-prediction baseline on held-out samples; None if not known.
        idle: (module, why) of trainable parts that have not moved; None if not measured.
        cut_off: Of these, parts whose values the loss depends on, and that get no gradient; and layers that the
            optimizer does not hold, between layers that it holds.
        dropped: Of the idle parts, those that run, and whose output reaches that of no module around them.
        twins: (idle part, the one beside it) of those without a gradient, beside which one of the same kind trains.
        unheard: Of the idle parts, those whose output is one of the model's, and makes no difference to the loss.
        past: Of the idle parts that the optimizer does not hold, those that reach the loss past all that it holds.
        walls: Layers whose weights are all zero and do not train, and before which parts that train get a gradient of
            0 because of it.
        unheld: Layers with trainable weights that get gradients, and that neither the monitor's optimizer holds nor
            anything else moves; None if that could not be seen.
        holds_strangers: True if the optimizer holds parameters that are not in the model and get no gradient.
        epochs: How often the usual input is in the batches, or how many epochs they are said to be; None if not known.
        stands_still: True if no trainable parameter has moved, to the bit; None if nobody looked.
        still_gradient: Where nothing moved, the gradient norm of a plain backward pass; else None.
        plain_gradient: Gradient norm of a backward pass without hooks, after the training; None if nobody looked.
        outside: Tensors with gradients that are not in the model; None if nobody looked.
        modes: Evaluation mode; None if nobody looked.
        axes: Operations over a wrong axis; None if nobody looked.
        places: Targets of every place; None if there are none, or nobody looked.
        reach: Which places of a sequence change the output; None if the input is none, or nobody looked.
        signal: Where the targets are lost on their way through the network; None if they cannot be read of the inputs,
            or nobody looked.
        effects: What is different after a pass; None if nobody looked.
        shifts: Whether targets belong to other rows; None if nobody looked.
        shuffle: What a random order of the same rows brings; None if it was not tried.
        counterparts: The part that keeps it from learning; None where that is not known.
        rates: How the learning rate went; None without an optimizer.
        shared: (names, what) of layers that stand in several places, and of parameters under several names; None if
            nobody looked.
        is_learnt_by_heart: True if a network that learns nothing learns one batch by heart; None if not tried.
        mixes: True if answers change with the other samples of the batch; None if that could not be asked.
        is_placed: True if the output of a row changes with its place in the batch; None if that could not be asked.
        drowned: (layer, share, size) of the first layer whose inputs are large and nearly the same for all samples: the
            share of their mean square that differs between samples, and its root; None without one.
        heart: What is learnt of the rows that are trained on, and of others; None where nobody looked.
        slopes: Gradients that are not the slope of what they are of; None if nobody looked.
        summands: The terms that the loss is a sum of, before training and after it; none of a loss of one term.
        climbs: Cosine of the change of all weights in a first step with the gradient: below 0, unless it goes up the
            slope of the loss; None if nobody looked.
        frozen_at_random: Frozen layers whose weights are as they were drawn.
        own_targets: Targets that the network makes, and copies of its parts that stay as they are; None without.
        validation: (epoch, figure, value) of validation figures that are NaN or infinite, in the order of the epochs.
        failed_probes: (code, why) of rules whose probe ended with an error of the model or the loss.
        unseen: What could not be measured, and why.
    """

    layers: tuple[Layer, ...] = ()
    records: tuple[StepRecord, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    gradient_norms: tuple[float, ...] = ()
    optimizer: OptimizerFacts = field(default_factory=OptimizerFacts)
    inputs: InputFacts | None = None
    outliers: OutlierFacts | None = None
    targets: TargetFacts | None = None
    classes: ClassFacts | None = None
    only_target: tuple[float, int] | None = None
    numbers: NumberFacts | None = None
    rows: RowFacts | None = None
    follows: tuple[float, float] | None = None
    directions: tuple[float, float] | None = None
    inputs_vary: bool | None = None
    loss: LossFacts | None = None
    bound: OutputBound | None = None
    norms: NormFacts | None = None
    alike: tuple[tuple[str, float], ...] = ()
    has_accumulated: bool | None = None
    loop: LoopFacts | None = None
    skill: float | None = None
    right: float | None = None
    level: float | None = None
    idle: tuple[tuple[str, str], ...] | None = None
    cut_off: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    twins: tuple[tuple[str, str], ...] = ()
    unheard: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    walls: tuple[str, ...] = ()
    unheld: tuple[str, ...] | None = None
    holds_strangers: bool = False
    epochs: float | None = None
    stands_still: bool | None = None
    still_gradient: float | None = None
    plain_gradient: float | None = None
    outside: OutsideFacts | None = None
    modes: ModeFacts | None = None
    axes: AxesFacts | None = None
    places: PlaceFacts | None = None
    reach: ReachFacts | None = None
    signal: SignalFacts | None = None
    effects: SideEffects | None = None
    shifts: ShiftFacts | None = None
    shuffle: ShuffleFacts | None = None
    counterparts: CounterpartFacts | None = None
    rates: RateFacts | None = None
    shared: tuple[tuple[tuple[str, ...], str], ...] | None = None
    is_learnt_by_heart: bool | None = None
    mixes: bool | None = None
    is_placed: bool | None = None
    drowned: tuple[str, float, float] | None = None
    heart: HeartFacts | None = None
    slopes: SlopeFacts | None = None
    summands: tuple[Summand, ...] = ()
    climbs: float | None = None
    frozen_at_random: tuple[str, ...] = ()
    own_targets: OwnTargets | None = None
    validation: tuple[tuple[int, str, float], ...] = ()
    failed_probes: tuple[tuple[str, str], ...] = ()
    unseen: tuple[str, ...] = ()
