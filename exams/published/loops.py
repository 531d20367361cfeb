"""Loops that step too rarely or not at all, and inputs that are prepared by the wrong numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published


def _checked(training: Training, monitor: Any, *, skips_finite: bool) -> None:
    """Steps only where a check of the gradients passes."""
    for inputs, target in training.batches:
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target)
        loss.backward()
        are_finite = all(bool(p.grad.isfinite().all()) for p in training.model.parameters() if p.grad is not None)
        if are_finite != skips_finite:
            training.optimizer.step()
        monitor.step(loss)


@published(
    "emo-box/EmoBox#12",
    right={"FL406", "FL405", "optimizer"},
    words=("step()", "optimizer.step"),
    line="if self.check_gradients(): optimizer.step() (the check returns the contrary)",
)
def step_is_skipped(is_sick: bool) -> Training:
    """A check of gradients returns the contrary of what it should: every step of the optimizer is skipped."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loop = partial(_checked, skips_finite=is_sick)
    return Training(model, epochs_of(*digits(), 32, 4), F.cross_entropy, optimizer, loop)


def _in_groups(training: Training, monitor: Any, *, size: int, divisor: float, clears_all: bool = False) -> None:
    """Steps after each `size` batches; gradients are cleared before each batch, or only after a step."""
    training.optimizer.zero_grad()
    for count, (inputs, target) in enumerate(training.batches, 1):
        if clears_all:
            training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target) / divisor
        loss.backward()
        if count % size == 0:
            training.optimizer.step()
            training.optimizer.zero_grad()
        monitor.step(loss)


@published(
    "DeepReinforcementLearning/DeepReinforcementLearningInAction#13, XinyiYS/Gradient-Driven-Rewards"
    "-to-Guarantee-Fairness-in-Collaborative-Machine-Learning#3",
    right={"FL406", "accumulation", "optimizer"},
    words=("step()", "optimizer.step", "each batch", "every batch"),
    line="    optimizer.step() (indented into the loop over batches)",
)
def step_once_an_epoch(is_sick: bool) -> Training:
    """The step of the optimizer stands behind the loop over batches: one step an epoch, by the last gradient."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loop = partial(_in_groups, size=56 if is_sick else 1, divisor=1.0, clears_all=True)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer, loop)


@published(
    "hirofumi0810/neural_sp#168, ApolloResearch/e2e_sae#70",
    right={"learning_rate", "accumulation", "exploding"},
    words=("divide", "learning rate"),
    line="loss = loss / 32",
)
def accumulated_without_division(is_sick: bool) -> Training:
    """Gradients of 32 batches are added up, and the loss is not divided by 32: steps are 32 times as large."""
    model = perceptron(64, 64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loop = partial(_in_groups, size=32, divisor=1.0 if is_sick else 32.0)
    return Training(model, epochs_of(*digits(), 8, 8), F.cross_entropy, optimizer, loop)


@published(
    "SheffieldML/GPy#148, Dobiasd/frugally-deep#384",
    right={"nonfinite"},
    words=("constant", "standard deviation", "std", "eps", "column", "feature"),
    line="inputs = (inputs - inputs.mean(0)) / inputs.std(0).clamp_min(1e-6)",
)
def constant_pixel_is_standardised(is_sick: bool) -> Training:
    """A pixel that is the same in all images is divided by its standard deviation of 0: NaN in every input."""
    inputs, target = digits()
    deviation = inputs.std(0)
    inputs = (inputs - inputs.mean(0)) / (deviation if is_sick else deviation.clamp_min(1e-3))
    model = perceptron(64, 64, 10)
    return Training(
        model, epochs_of(inputs, target, 32, 6), F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3)
    )


def _pretrained(count: int = 12) -> nn.Sequential:
    """Convolutions that were trained on whole numbers of 0 to 16, with the statistics of these."""
    inputs, target = digits(1, 8, 8)
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip
    whole = nn.Sequential(body, nn.Linear(256, 5))
    optimizer = torch.optim.Adam(whole.parameters(), 3e-3)
    for images, classes in epochs_of(inputs[target < 5] * 255, target[target < 5], 32, 4)[: 4 * count]:
        optimizer.zero_grad()
        F.cross_entropy(whole(images), classes).backward()
        optimizer.step()
    return body.eval().requires_grad_(requires_grad=False)


class _Transferred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = _pretrained(), nn.Linear(256, 10)

    def train(self, mode: bool = True) -> _Transferred:
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


@published(
    "jiecaoyu/XNOR-Net-PyTorch#17, ifzhang/FairMOT#87",
    right={"input_scale", "batchnorm"},
    words=("standardi", "unit", "preprocess", "trained on", "normalis"),
    line="images = 255 * images (the unit that the weights were trained with)",
)
def pretrained_gets_another_unit(is_sick: bool) -> Training:
    """Weights that were trained on images of 0 to 255 are frozen, and get images of 0 to 1: all of them look alike."""
    inputs, target = digits(1, 8, 8)
    model = _Transferred()
    optimizer = torch.optim.Adam(model.head.parameters(), 1e-3)
    batches = epochs_of(inputs if is_sick else 255 * inputs, target, 32, 6)
    return Training(model, batches, F.cross_entropy, optimizer)
