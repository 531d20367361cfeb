"""Healthy trainings. More than half of them are hard: a rule of thumb somewhere calls them sick."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .families.contract import TABULAR
from .recipe import Recipe

SEEDS = (0, 1, 2, 3)  # these decide; `seeds.py` adds others


@dataclass(frozen=True)
class Control:
    """A healthy configuration on several data sets.

    Attributes:
        name: Short name.
        recipe: The training, without data and seed.
        thought: What a naive rule would hold against it; empty for an easy control.
        datasets: Where it is trained.
    """

    name: str
    recipe: Recipe
    thought: str = ""
    datasets: tuple[str, ...] = TABULAR

    @property
    def is_hard(self) -> bool:
        """True if some naive rule would call it sick."""
        return bool(self.thought)

    def at(self, dataset: str, seed: int) -> Recipe:
        """Its training on one data set from one seed."""
        return replace(self.recipe, dataset=dataset, seed=seed)


ADAM = Recipe(optimizer="adam", lr=0.002)
SEQUENCE = Recipe(network="gru", depth=1, width=32, optimizer="adam", lr=0.005)
CONV = Recipe(network="conv", depth=2, width=16, norm="batch")
TRANSFORMER = Recipe(network="transformer", depth=2, width=32, optimizer="adam", lr=0.002)

EASY = (
    Control("relu_3_sgd", Recipe()),
    Control("relu_3_adam", ADAM),
    Control("tanh_3_sgd", Recipe(activation="tanh")),
    Control("relu_2_rmsprop", Recipe(depth=2, optimizer="rmsprop", lr=0.001)),
    Control("gelu_3_adamw", Recipe(activation="gelu", optimizer="adamw", lr=0.002, weight_decay=0.01)),
    Control("elu_4_nesterov", Recipe(activation="elu", depth=4, optimizer="nesterov")),
    Control("leaky_3", Recipe(activation="leaky_relu")),
    Control("wide_512", Recipe(width=512, depth=2)),
    Control("bn_3", Recipe(norm="batch")),
    Control("ln_3_adam", replace(ADAM, norm="layer")),
    Control("torch_init", replace(ADAM, init="torch")),
)
HARD_START = (
    Control("sparse_80", Recipe(traits=("sparse",)), "80% of ReLU outputs are zero: dead"),
    Control("pruned_67", Recipe(traits=("pruned",)), "two of three weights are zero"),
    Control("some_dead", Recipe(width=128, traits=("some_dead",)), "a tenth of the units are dead"),
    Control("relu_8_he", Recipe(depth=8), "deep ReLU: ratios between far layers"),
    Control("tanh_8_glorot", Recipe(activation="tanh", depth=8), "deep tanh: vanishing"),
    Control("selu_8", Recipe(activation="selu", depth=8, lr=0.02), "deep without normalisation"),
    Control("sigmoid_1_adam", Recipe(activation="sigmoid", depth=1, optimizer="adam", lr=0.02), "sigmoid: saturation"),
    Control("sigmoid_2_adam", Recipe(activation="sigmoid", depth=2, optimizer="adam", lr=0.02), "sigmoid: vanishing"),
    Control("zero_head", replace(ADAM, head_gain=0.0), "zero head: no gradient below it at the first step"),
    Control("zero_head_sgd", Recipe(head_gain=0.0), "zero head: first gradients are exactly zero"),
    Control("zero_columns", Recipe(traits=("zero_columns",)), "half of the input columns are constant zero"),
    Control("small_first", Recipe(depth=4, first_gain=0.01), "first layer a hundred times too small, soon mended"),
    Control("hardtanh_2", Recipe(activation="hardtanh", depth=2), "flat ends that units visit"),
    Control("large_init_adam", replace(ADAM, gain=1.3), "weights a third larger than He"),
    Control(
        "pretrained", Recipe(lr=0.01, traits=("pretrained",)), "loss near its floor: gradients tiny, nothing falls"
    ),
    Control("new_head", Recipe(traits=("new_head",)), "a trained body under a fresh head: uneven norms"),
    Control("converged_adam", replace(ADAM, lr=0.0005, traits=("pretrained",)), "converged: update ratios tiny"),
)
HARD_COURSE = (
    Control("dropout_50", Recipe(dropout=0.5, width=128), "dropout .5: noisy loss, half of the outputs zero"),
    Control("weight_decay", Recipe(weight_decay=0.003), "weight decay: weights shrink"),
    Control("label_noise_20", Recipe(label_noise=0.2), "low ceiling: loss does not fall"),
    Control("label_noise_40", replace(ADAM, label_noise=0.4), "very low ceiling"),
    Control("batch_8", Recipe(batch_size=8, lr=0.01), "small batches: noisy loss and gradients"),
    Control("batch_256", Recipe(batch_size=256), "large batches: smooth"),
    Control("batch_1", Recipe(batch_size=1, lr=0.003, momentum=0.8, steps=600), "single rows: oscillation"),
    Control("warmup", replace(ADAM, warmup=60), "warm-up: hardly any change at first"),
    Control("frozen_first", Recipe(traits=("frozen_first",)), "frozen first layer: no gradients"),
    Control("frozen_half", Recipe(width=128, traits=("frozen_half",)), "half of the parameters frozen"),
    Control("unused_branch", Recipe(traits=("unused_branch",)), "a layer the forward never enters"),
    Control("weight_norm", replace(ADAM, traits=("weight_norm",)), "weights that are no parameters"),
    Control("bn_dropout", Recipe(norm="batch", dropout=0.2, width=128), "BatchNorm after dropout: variance shifts"),
    Control("tied", Recipe(network="tied"), "tied weights: gradients add up"),
    Control("autocast", Recipe(traits=("autocast",)), "bfloat16: rounding, many equal values"),
    Control("quarter_loss", Recipe(loss="quarter"), "loss divided for accumulation: small gradients"),
    Control("thousandth_loss", replace(ADAM, loss="thousandth"), "tiny gradients, which Adam does not mind"),
    Control("thousandfold_loss", replace(ADAM, loss="thousandfold"), "huge gradients, which Adam does not mind"),
    Control("smoothed", replace(ADAM, loss="smoothed"), "label smoothing: the loss stays high"),
    Control("focal", replace(ADAM, loss="focal"), "focal loss: tiny gradients"),
    Control("hinge", Recipe(loss="hinge"), "hinge: many exactly zero gradients"),
    Control("mse_classes", replace(ADAM, loss="mse_one_hot"), "squared error on classes"),
    Control("bn_batch_16", Recipe(norm="batch", batch_size=16, lr=0.02), "noisy batch statistics"),
    Control("bn_momentum_03", Recipe(norm="batch", bn_momentum=0.3), "fast running statistics"),
    Control(
        "two_groups", replace(ADAM, optimizer="two_groups", lr=0.005, traits=("new_head",)), "body 100 times slower"
    ),
)
OTHER_DATA = (
    Control("raw_blobs", Recipe(lr=0.02), "inputs up to 15, means far apart", ("raw_blobs",)),
    Control(
        "inner_scale",
        Recipe(input_scale=255.0, traits=("inner_scale",)),
        "raw pixels, scaled by the model",
        ("digits", "cancer"),
    ),
    Control(
        "bn_input",
        Recipe(input_scale=20.0, norm="batch"),
        "large inputs, normalised by the first BatchNorm",
        ("digits",),
    ),
    Control("imbalanced", ADAM, "nine of ten rows are one class", ("imbalanced",)),
    Control("words", replace(ADAM, network="words", lr=0.01), "embedding: nearly all gradients are zero", ("tokens",)),
    Control("counts", replace(ADAM, lr=0.005), "inputs nearly all zero", ("counts",)),
    Control("wine", ADAM, "124 rows: loss reaches zero", ("wine",)),
    Control("regression", replace(ADAM, lr=0.01, loss="mse"), "squared error: no accuracy to look at", ("friedman",)),
    Control("huber", replace(ADAM, lr=0.01, loss="huber"), "Huber loss", ("friedman",)),
    Control("multilabel", replace(ADAM, loss="bce"), "several labels: the loss stays high", ("multilabel",)),
)
OTHER_NETWORKS = (
    Control("gru_waves", SEQUENCE, "60 steps: early gradients are small", ("waves",)),
    Control("lstm_totals", replace(SEQUENCE, network="lstm"), "60 steps, forget gates open", ("totals",)),
    Control("gru_totals", SEQUENCE, "60 steps, gradients with outliers", ("totals",)),
    Control(
        "rnn_pixels",
        replace(SEQUENCE, network="rnn", lr=0.003, steps=600),
        "plain tanh over 64 steps",
        ("digit_pixels",),
    ),
    Control("lstm_2_totals", replace(SEQUENCE, network="lstm", depth=2), "two layers over 60 steps", ("totals",)),
    Control("conv_bn", CONV, "", ("digit_images",)),
    Control("conv_bn_adam", replace(CONV, optimizer="adam", lr=0.003, depth=3), "", ("digit_images",)),
    Control("conv_gn", replace(CONV, norm="layer"), "GroupNorm", ("digit_images",)),
    Control("conv_plain", replace(CONV, norm="none"), "no norm", ("digit_images",)),
    Control("residual", Recipe(network="residual", depth=2, width=12), "", ("digit_images",)),
    Control(
        "residual_zero_gamma",
        Recipe(network="residual", depth=2, width=12, traits=("zero_gamma",)),
        "branches start at zero",
        ("digit_images",),
    ),
    Control(
        "conv_frozen_bn",
        replace(CONV, lr=0.01, traits=("pretrained", "frozen_bn")),
        "BatchNorm frozen",
        ("digit_images",),
    ),
    Control(
        "conv_frozen", replace(CONV, traits=("pretrained", "frozen_half")), "frozen pretrained stem", ("digit_images",)
    ),
    Control("transformer", TRANSFORMER, "", ("digit_rows",)),
    Control("gpt_warmup", replace(TRANSFORMER, warmup=60, traits=("causal",)), "causal, with warm-up", ("digit_rows",)),
    Control(
        "transformer_post",
        replace(TRANSFORMER, lr=0.001, warmup=60, traits=("post_norm",)),
        "post-norm",
        ("digit_rows",),
    ),
    Control("transformer_dropout", replace(TRANSFORMER, dropout=0.1), "dropout in attention", ("digit_rows",)),
    Control(
        "transformer_adamw",
        replace(TRANSFORMER, optimizer="adamw", weight_decay=0.05),
        "strong weight decay",
        ("digit_rows",),
    ),
)
CONTROLS: tuple[Control, ...] = (
    *EASY,
    *(replace(control, datasets=("blobs", "circles", "digits")) for control in (*HARD_START, *HARD_COURSE)),
    *OTHER_DATA,
    *OTHER_NETWORKS,
)
