"""A training run as a plain value: everything that decides its outcome, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

# Steps of one training. 300 steps of 64 rows are 15 epochs of digits and 27 of blobs, where the healthy
# references of `controls.py` have reached their ceiling. Judge, twin and every undo see exactly these batches.
STEPS = 300


@dataclass(frozen=True)
class Recipe:
    """One training, reproducible to the bit from these fields. Undoing a factor is `dataclasses.replace`.

    Attributes:
        dataset: A name in `data.DATASETS`.
        seed: Decides the split, the order of batches, the initial weights and the dropout.
        network: A name in `networks.NETWORKS`.
        depth: Hidden layers (MLP, recurrent), blocks (transformer, convolutional).
        width: Units, channels or features of a hidden layer.
        activation: A name in `networks.ACTIVATIONS`.
        init: `fitting` (He for the ReLU family, LeCun for SELU, else Glorot), `normal` (standard deviation `gain`),
            `zeros`, `constant` (the value is `gain`) or `torch` (what the modules come with).
        gain: Factor on the initial weights; for `normal` and `constant` the number itself.
        head_gain: Factor on the last layer's initial weights alone.
        first_gain: Factor on the first layer's initial weights alone.
        bias: Initial bias of the hidden layers.
        clones: Distinct units per hidden layer at the start; 0 leaves all of them distinct.
        norm: `none`, `batch` or `layer`, before the activation.
        bn_momentum: Momentum of the BatchNorm layers.
        dropout: Dropout after each hidden layer.
        optimizer: A name in `optimizers.OPTIMIZERS`.
        lr: Learning rate.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of the optimizer.
        warmup: Steps over which the optimizer itself raises its learning rate.
        clip: Largest gradient norm; 0 does not clip.
        batch_size: Rows in a batch.
        steps: Batches in the training.
        loss: A name in `losses.LOSSES`.
        zero_grad: False forgets to clear the gradients.
        input_scale: Factor on all inputs.
        input_shift: Added to all inputs, after scaling.
        uneven: Factor on the most varied input column alone.
        outliers: Share of training rows whose inputs are multiplied by `data.OUTLIER_FACTOR`.
        target_outliers: Share of training rows whose (real) target is multiplied by that factor.
        nan_rows: Training rows with one NaN.
        label_noise: Share of training labels drawn at random.
        traits: Names in `traits.TRAITS`: special features of healthy networks.
    """

    dataset: str = ""
    seed: int = 0
    network: str = "mlp"
    depth: int = 3
    width: int = 64
    activation: str = "relu"
    init: str = "fitting"
    gain: float = 1.0
    head_gain: float = 1.0
    first_gain: float = 1.0
    bias: float = 0.0
    clones: int = 0
    norm: str = "none"
    bn_momentum: float = 0.1
    dropout: float = 0.0
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: int = 0
    clip: float = 0.0
    batch_size: int = 64
    steps: int = STEPS
    loss: str = "cross_entropy"
    zero_grad: bool = True
    input_scale: float = 1.0
    input_shift: float = 0.0
    uneven: float = 1.0
    outliers: float = 0.0
    target_outliers: float = 0.0
    nan_rows: int = 0
    label_noise: float = 0.0
    traits: tuple[str, ...] = ()
