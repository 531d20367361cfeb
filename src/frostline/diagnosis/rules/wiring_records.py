"""How a network is wired, as plain numbers: what is outside of it, its modes, its axes. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass

# Why a part does not move.
UNHELD, NO_RATE, NO_GRADIENT = "not in the optimizer", "at a learning rate of 0", "without a gradient"
NO_SLOPE = "with a gradient of 0"


@dataclass(frozen=True)
class OutsideFacts:
    """Tensors that the model computes with, that ask for gradients, and that are neither in it nor in its optimizer.

    Attributes:
        lasting: Shapes of those that are the same from one batch to the next.
        made_anew: Shapes of those that each forward pass makes, with other values.
        in_loss: Shapes of those that are behind the loss alone.
    """

    lasting: tuple[tuple[int, ...], ...] = ()
    made_anew: tuple[tuple[int, ...], ...] = ()
    in_loss: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class ModeFacts:
    """What the model does in evaluation mode, and which layers trained in it.

    Attributes:
        never_updated: BatchNorm layers with trainable weights that were in evaluation mode while the model trained, and
            whose running statistics are those that they were made with.
        updated_before: The same, whose statistics were measured at some time.
        silent: Dropout layers that were in evaluation mode while the model trained.
        redraws: Largest difference of two passes over the same rows in evaluation mode, over the largest output.
        is_constant: True if the trained model gives the same output for every row, though the rows differ.
        dropout: Largest share that an active dropout layer drops; 0 without one.
        train_loss: Of a batch in training mode, where no BatchNorm makes a difference; None if there is one.
        eval_loss: Of the same rows in evaluation mode.
        frozen_unit: (layer, times) of the first BatchNorm that was in evaluation mode while the model trained: how far
            the values of a batch spread there, over what its statistics say; None without one.
        remembers: True if two passes over the same rows at the same noise differ: something is kept from the first.
        dropped_outputs: Largest share that a dropout behind the output layer sets to zero; 0 without one.
    """

    never_updated: tuple[str, ...] = ()
    updated_before: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    redraws: float | None = None
    is_constant: bool | None = None
    dropout: float = 0.0
    train_loss: float | None = None
    eval_loss: float | None = None
    dropped_outputs: float = 0.0
    frozen_unit: tuple[str, float] | None = None
    remembers: bool = False


@dataclass(frozen=True)
class AxesFacts:
    """Operations over an axis that can hardly be meant, in one forward pass.

    Attributes:
        exchanged: (shape before, shape after) of reshapes that give the sizes of two axes in exchanged order, as a
            transpose would, and leave the values where they were.
        over_samples: What runs over the axis of the samples: `softmax over axis 0`, `layer 'r' (GRU)`.
        of_one: Shapes of what a softmax got over an axis of one value.
        unweighed: (shape, axis, axis) of what a softmax gave over the first of these axes, and a product of matrices
            sums over the second.
        scattered: (shape of the output, shape in the loss) where rows of the loss mix places with classes.
    """

    exchanged: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    over_samples: tuple[str, ...] = ()
    of_one: tuple[tuple[int, ...], ...] = ()
    unweighed: tuple[tuple[tuple[int, ...], int, int], ...] = ()
    scattered: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class LoopFacts:
    """What a loop of your own does with what it computes.

    Attributes:
        reported: Losses that were reported.
        steps: Of the optimizer.
        has_moved: True if it has stepped, or anything else has moved what it holds.
        cleared: The fewest backward passes before a step that got the gradient of the last one alone; 0 where a step
            got more, or it could not be seen.
        others: Reports before which something was written to a parameter, though the optimizer had not stepped.
        evaluated: The last reports, in a row, at which the model was in evaluation mode, though it was not before.
        silent: BatchNorm and dropout layers that are in evaluation mode in the end.
        unmoved: The last reports, in a row, before which the optimizer has stepped and written to no parameter.
    """

    reported: int
    steps: int
    has_moved: bool = True
    cleared: int = 0
    others: int = 0
    evaluated: int = 0
    silent: tuple[str, ...] = ()
    unmoved: int = 0


@dataclass(frozen=True)
class ReachFacts:
    """Which places of a sequence change the output of a model.

    Attributes:
        places: How many were changed, of those that differ between samples.
        reached: How many of these change the output.
        sees_order: Whether the output changes if all places are reversed.
        unused: (what, how many of them, of how many) of values that differ between samples and change no output.
        padded: How far outputs change with more padding behind the rows, over their spread; 0 where there is none.
    """

    places: int = 0
    reached: int = 0
    sees_order: bool | None = None
    unused: tuple[tuple[str, int, int], ...] = ()
    padded: float = 0.0


@dataclass(frozen=True)
class SignalFacts:
    """How much of the targets a linear model reads of what passes a network, before its first step.

    Shares of what the constant-prediction baseline leaves.

    Attributes:
        of_inputs: Of the inputs.
        kept_at: The last place of which it can be read; "" if it can be to the end.
        kept: What is read there.
        lost_at: The place after it: here, and at all later ones, next to nothing is.
        lost: What is read there.
    """

    of_inputs: float
    kept_at: str = ""
    kept: float = 0.0
    lost_at: str = ""
    lost: float = 0.0


@dataclass(frozen=True)
class PlaceFacts:
    """Targets of every place of a sequence.

    Attributes:
        padding: Share of places that are padding and count in the loss.
        label: What stands for padding in the targets.
        sees_answer: True if the target of a place is the input of a later one, and outputs change with that input.
        copies_input: True if the target of each place is the input of that very place, though outputs do not change
            with later inputs, as those of a model that predicts the next one.
        ahead: Places by which the targets are ahead of the inputs that they are; 0 where they are none of these.
        unlearnt: (how many places, of how many that count, share of the loss) of places whose targets the outputs know
            no better than how common each is, beside others that they know; None without.
        by_row: How many times as much a word of the shortest row counts as one of the longest, where each row counts
            the same; 1 elsewhere.
        blind: (how many places, of how many) whose own input does not change their output.
        alone: (how many places, of how many) whose input changes no other place's output.
    """

    padding: float = 0.0
    label: int = 0
    sees_answer: bool = False
    copies_input: bool = False
    ahead: int = 0
    unlearnt: tuple[int, int, float] | None = None
    by_row: float = 1.0
    blind: tuple[int, int] = (0, 1)
    alone: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class SideEffects:
    """What is different after a pass, besides its result.

    Attributes:
        inputs: Names of inputs that forward has changed.
        inputs_in_loss: The same, of the loss.
        targets: Names of targets that the loss has changed.
        weights: Names of trainable parameters that forward has written to.
        modes: Names of modules whose mode forward has changed; "" is the model.
        reseeds: True if forward sets the seed of all random numbers.
        settled: Names of inputs and targets that a pass changes once: what is changed gives the same, and stays as it
            is in the next pass, as behind a ReLU.
    """

    inputs: tuple[str, ...] = ()
    inputs_in_loss: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    reseeds: bool = False
    settled: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShuffleFacts:
    """The same rows in a random order.

    Attributes:
        own: Score on held-out samples in the order that is given: right answers, or explained variance.
        shuffled: The same, of a random order.
        is_better: True if that is clearly more.
    """

    own: float
    shuffled: float
    is_better: bool


@dataclass(frozen=True)
class FunctionSlope:
    """A `torch.autograd.Function` whose backward is not the slope of its forward.

    Attributes:
        name: Of the class.
        layer: The module in which it ran.
        given: The slope that its backward gives, along a random direction.
        measured: The same, of differences of its forward.
    """

    name: str
    layer: str
    given: float
    measured: float


@dataclass(frozen=True)
class SlopeFacts:
    """Gradients that are not the slope of what they are of, as differences show.

    Attributes:
        functions: Own functions of autograd.
        cut: (module, share) of modules whose weights change the output by more, or less, than their gradients say: what
            the gradient gives along itself, over what differences do.
        asked: How many functions and modules were compared.
    """

    functions: tuple[FunctionSlope, ...] = ()
    cut: tuple[tuple[str, float], ...] = ()
    asked: int = 0


@dataclass(frozen=True)
class CounterpartFacts:
    """A swap of one part for a plain one that makes a network learn; shares of right answers, or explained variance.

    Attributes:
        part: `optimizer`, `loss` or `network`.
        own: As it is.
        swapped: With that part swapped.
        plain: With all of them swapped.
        least: Of the constant-prediction baseline.
        by: What it was swapped for.
        settings: Of the optimizer, those that are not its defaults.
        is_of_loss: True if these are shares of the loss of the constant-prediction baseline that are saved.
    """

    part: str
    own: float
    swapped: float
    plain: float
    least: float
    by: str
    settings: str = ""
    is_of_loss: bool = False


@dataclass(frozen=True)
class ShiftFacts:
    """Whether a linear model reads more of the targets of other rows, and how targets lie in batches.

    Attributes:
        own: Share that it reads of a row's own target, of what the constant-prediction baseline leaves.
        instead: `the row before`, `the row after` or `the row in reversed order`, whose target it reads; "" without.
        read: Share that it reads of that one.
        between: The share of the variance of real targets that lies between batches; 0 where targets are no numbers.
    """

    own: float = 0.0
    instead: str = ""
    read: float = 0.0
    between: float = 0.0
