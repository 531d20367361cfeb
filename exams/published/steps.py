"""Steps that are too large, too small or of the wrong kind, and what makes them so: rates, units, decay, weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, cancer, digits, epochs_of, perceptron, published

_DEEPFD = "DeepFD benchmark, Stack Overflow"


@published(
    "jax-ml/jax#3113", right={"learning_rate", "exploding"}, words=("learning rate", "mean"), treatment="learning rate"
)
def loss_summed(is_sick: bool) -> Training:
    """The loss is summed over a batch of 128: steps are 128 times as large."""
    model = perceptron(64, 64, 64, 10)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, reduction="sum" if is_sick else "mean")

    return Training(model, epochs_of(*digits(), 128, 20), loss_fn, torch.optim.SGD(model.parameters(), 0.1))


@published(
    "BVLC/caffe#1396", right={"weight_decay", "FL404"}, words=("weight decay", "weight_decay"), treatment="weight decay"
)
def strong_weight_decay(is_sick: bool) -> Training:
    """A weight decay of 0.5 shrinks all weights until one answer is left."""
    model = perceptron(64, 64, 64, 10)
    decay = 0.5 if is_sick else 5e-4
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=decay)
    return Training(model, epochs_of(*digits(), 32, 8), F.cross_entropy, optimizer)


@published("Deci-AI/super-gradients#416", right={"order", "FL404"}, words=("shuffle",))
def in_the_order_of_classes(is_sick: bool) -> Training:
    """Batches come in the order of the classes, not shuffled."""
    inputs, target = digits()
    order = target.argsort(stable=True)
    model = perceptron(64, 64, 10)
    batches = epochs_of(inputs[order], target[order], 32, 5, shuffle=not is_sick)
    return Training(model, batches, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))


@published(f"{_DEEPFD} 39525358", right={"input_scale"}, words=("standardi",), treatment="inputs to scale")
def table_not_standardised(is_sick: bool) -> Training:
    """Features of a table are given as they are, from 0.001 to 4,000."""
    inputs, target = cancer(is_standardised=not is_sick)
    model = perceptron(30, 32, 1)
    batches = epochs_of(inputs, target[:, None].float(), 16, 8)
    return Training(model, batches, F.binary_cross_entropy_with_logits, torch.optim.SGD(model.parameters(), 1e-2))


@published(f"{_DEEPFD} 39217567", right={"vanishing", "saturation"}, words=("ReLU", "ELU"), treatment="activations")
def stacked_sigmoids(is_sick: bool) -> Training:
    """Stacked sigmoids with small normal weights pass hardly any gradient on."""
    model = perceptron(64, 64, 64, 64, 64, 10, activation=nn.Sigmoid if is_sick else nn.ReLU)
    for layer in model if is_sick else ():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.05)
    return Training(model, epochs_of(*digits(), 32, 8), F.cross_entropy, torch.optim.Adam(model.parameters(), 1e-3))


@published(
    "mattiasegu/uncertainty_estimation_deep_learning#7",
    right={"symmetry", "initialization", "dead_units", "vanishing"},
    words=("initialis", "initializ"),
    treatment="new weights",
)
def weights_of_zero(is_sick: bool) -> Training:
    """All layers start with weights of 0: their units stay alike."""
    model = perceptron(64, 64, 64, 10)
    for parameter in model.parameters() if is_sick else ():
        nn.init.zeros_(parameter)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))


@published("wolny/pytorch-3dunet#53", right={"batchnorm"}, words=("larger batches", "GroupNorm"), treatment="GroupNorm")
def batchnorm_over_one_image(is_sick: bool) -> Training:
    """BatchNorm over batches of one image."""
    inputs, target = digits(1, 8, 8)
    inputs = inputs * torch.exp(1.3 * torch.randn(len(inputs), 1, 1, 1, generator=torch.Generator().manual_seed(1)))
    parts: list[nn.Module] = []
    for before in (1, 12, 12):
        parts += [nn.Conv2d(before, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()]
    model = nn.Sequential(*parts, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10))
    batches = epochs_of(inputs, target, 1, 1)[:600] if is_sick else epochs_of(inputs, target, 32, 6)
    return Training(model, batches, F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))


@published("allenai/allennlp#2797", right={"nonfinite"}, words=("log",))
def log_of_an_underflow(is_sick: bool) -> Training:
    """The logarithm is taken of a softmax that underflows to 0."""
    model = perceptron(64, 64, 10)
    with torch.no_grad():
        model[2].weight.mul_(400)

    def of_softmax(output: Tensor, target: Tensor) -> Tensor:
        return -(output.softmax(1).log() * F.one_hot(target, 10)).sum(1).mean()

    loss_fn = of_softmax if is_sick else F.cross_entropy
    return Training(model, epochs_of(*digits(), 32, 8), loss_fn, torch.optim.Adam(model.parameters(), 1e-2))
