"""Outputs, targets and losses that do not belong together."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, cancer, diabetes, digits, epochs_of, perceptron, published

_DEEPFD = "DeepFD benchmark, Stack Overflow"


@published("shaoxiongji/federated-learning#9", right={"loss_mismatch"}, words=("softmax",))
def softmax_before_cross_entropy(is_sick: bool) -> Training:
    """A softmax stands before cross_entropy, which takes one itself."""
    model = perceptron(64, 64, 10, last=nn.Softmax(dim=1) if is_sick else None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer)


@published("clvrai/ACGAN-PyTorch#4", right={"loss_mismatch"}, words=("log",))
def nll_of_probabilities(is_sick: bool) -> Training:
    """nll_loss gets probabilities in place of their logarithms."""
    model = perceptron(64, 64, 10, last=nn.Softmax(dim=1) if is_sick else nn.LogSoftmax(dim=1))
    return Training(model, epochs_of(*digits(), 32, 6), F.nll_loss, torch.optim.SGD(model.parameters(), 0.05))


@published(f"{_DEEPFD} 33969059", right={"loss_mismatch"}, words=("softmax",))
def softmax_over_one_unit(is_sick: bool) -> Training:
    """A softmax over a single unit: the output is always 1."""
    model = perceptron(10, 64, 1, last=nn.Softmax(dim=1) if is_sick else None)
    return Training(model, epochs_of(*diabetes(), 16, 12), F.mse_loss, torch.optim.Adam(model.parameters(), 1e-3))


@published(f"{_DEEPFD} 58609115", right={"loss_mismatch"}, words=("class", "binary"))
def cross_entropy_of_one_class(is_sick: bool) -> Training:
    """Categorical cross-entropy over one output: the loss is always 0."""
    inputs, target = cancer(is_standardised=True)
    model = perceptron(30, 16, 1)
    loss_fn = F.cross_entropy if is_sick else F.binary_cross_entropy_with_logits
    batches = epochs_of(inputs, target[:, None].float(), 16, 8)
    return Training(model, batches, loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


@published("deepset-ai/FARM#229", right={"loss_mismatch"}, words=("shape", "every target"))
def all_compared_with_all(is_sick: bool) -> Training:
    """Outputs of shape (N,) are subtracted from targets of shape (N, 1): all are compared with all."""
    model = perceptron(10, 64, 1, last=nn.Flatten(0) if is_sick else None)

    def squared(output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().mean()

    return Training(model, epochs_of(*diabetes(), 16, 12), squared, torch.optim.Adam(model.parameters(), 1e-3))


@published(f"{_DEEPFD} 59325381", right={"targets", "loss_mismatch"}, words=("target", "label"))
def labels_of_one_class(is_sick: bool) -> Training:
    """The labels, and not the images, were divided by 255: every label is 0."""
    inputs, target = digits()
    model = perceptron(64, 64, 10)
    batches = epochs_of(inputs, (target / 255).long() if is_sick else target, 32, 6)
    return Training(model, batches, F.cross_entropy, torch.optim.Adam(model.parameters(), 3e-3))


@published("mlcommons/GaNDLF#870", right={"FL404"}, words=("belongs", "shuffle"))
def shuffled_apart(is_sick: bool) -> Training:
    """Images and labels were shuffled apart: no label belongs to its image."""
    inputs, target = digits()
    target = target[torch.randperm(len(target), generator=torch.Generator().manual_seed(5))] if is_sick else target
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, target, 32, 6), F.cross_entropy, optimizer)
