"""Rates that a tutorial was left with: too high or too low for the data, and units that no rate fits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published

_DEEPFD = "DeepFD benchmark, Stack Overflow"


@published(
    f"{_DEEPFD} 48385830",
    right={"learning_rate", "exploding", "loss_mismatch"},
    words=("learning rate",),
    treatment="learning rate",
)
def linear_network_at_a_rate_of_three(is_sick: bool) -> Training:
    """Weights of deviation 1 without an activation, squared errors and a rate of 3: all overflows."""
    model = perceptron(64, 30, 10, activation=nn.Identity if is_sick else nn.Sigmoid)
    for parameter in model.parameters() if is_sick else ():
        nn.init.normal_(parameter)

    def squared(output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output, F.one_hot(target, 10).float())

    loss_fn, rate = (squared, 3.0) if is_sick else (F.cross_entropy, 0.5)
    return Training(model, epochs_of(*digits(), 32, 8), loss_fn, torch.optim.SGD(model.parameters(), rate))


@published(f"{_DEEPFD} 31556268", right={"learning_rate"}, words=("learning rate",), treatment="learning rate")
def xor_at_a_low_rate(is_sick: bool) -> Training:
    """XOR with sigmoids and squared errors, at a rate with which nothing happens in the epochs that are given."""
    table = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(8, 1)
    target = (table[:, :1] != table[:, 1:]).float()
    model = perceptron(2, 8, 1, activation=nn.Sigmoid, last=nn.Sigmoid())
    slow = torch.optim.SGD(model.parameters(), 0.05, momentum=0.11, nesterov=True)
    optimizer = slow if is_sick else torch.optim.Adam(model.parameters(), 0.05)
    return Training(model, epochs_of(table, target, 4, 60), F.mse_loss, optimizer)


@published(
    f"{_DEEPFD} 48934338", right={"learning_rate", "exploding"}, words=("learning rate",), treatment="learning rate"
)
def regression_at_a_high_rate(is_sick: bool) -> Training:
    """Inputs of size 5 and a rate of 0.3: errors grow with every step."""
    inputs = 5 * torch.rand(1200, 3, generator=torch.Generator().manual_seed(0))
    target = inputs @ torch.tensor([[1.0], [-0.5], [0.8]]) - 3
    model = perceptron(3, 16, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.3 if is_sick else 2e-3)
    return Training(model, epochs_of(inputs, target, 16, 6), F.mse_loss, optimizer)


@published(f"{_DEEPFD} 52800582", right={"input_scale"}, words=("standardi",), treatment="inputs and targets to scale")
def inputs_and_targets_as_they_are(is_sick: bool) -> Training:
    """Inputs of a thousand and targets of a million are given as they are."""
    inputs = 1000 * torch.rand(900, 1, generator=torch.Generator().manual_seed(0))
    target = (inputs - 400).square()
    if not is_sick:
        inputs, target = ((part - part.mean()) / part.std() for part in (inputs, target))
    model = perceptron(1, 32, 32, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, target, 32, 8), F.mse_loss, optimizer)


@published(
    f"{_DEEPFD} 51181393",
    right={"learning_rate", "input_scale"},
    words=("learning rate", "target"),
    treatment="learning rate",
)
def line_at_a_low_rate(is_sick: bool) -> Training:
    """A line through targets of about 10 is fitted with RMSprop at its default rate: it never gets there."""
    generator = torch.Generator().manual_seed(0)
    inputs = 2 * torch.rand(600, 1, generator=generator) - 1
    target = 5 * inputs + 9 + 0.1 * torch.randn(600, 1, generator=generator)
    model = nn.Sequential(nn.Linear(1, 1))
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3 if is_sick else 0.1)
    return Training(model, epochs_of(inputs, target, 16, 6), F.mse_loss, optimizer)


@published(
    "Wardat-ISU/DeepLocalize#3",
    right={"learning_rate", "dead_units"},
    words=("learning rate",),
    treatment="learning rate",
)
def keypoints_with_adam_at_a_tenth(is_sick: bool) -> Training:
    """Points of a picture are regressed with Adam at 0.1: the units die, and one answer is left."""
    inputs, _ = digits()
    pictures, at = inputs.reshape(-1, 8, 8), torch.arange(8.0) - 3.5
    weight = pictures / pictures.sum((1, 2), keepdim=True)
    middle = [(weight.sum(2) * at).sum(1), (weight.sum(1) * at).sum(1)]
    halves = [4 * (weight[:, :4].sum((1, 2)) - 0.5), 4 * (weight[:, :, :4].sum((1, 2)) - 0.5)]
    model = perceptron(64, 100, 100, 100, 100, 4)
    usual = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, nesterov=True)
    optimizer = torch.optim.Adam(model.parameters(), 0.1) if is_sick else usual
    batches = epochs_of(inputs, torch.stack([*middle, *halves], 1), 32, 8)
    return Training(model, batches, F.mse_loss, optimizer)
