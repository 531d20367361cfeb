"""Rates and schedules under which too little is learnt: of what a person's questions find (docs/exam.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published
from .sequences import sentences

second = partial(published, part="second draw")


def at_rates(training: Training, monitor: Any, *, rate_at: Callable[[int], float]) -> None:
    """A usual loop whose rate is that of the step."""
    for step, (inputs, target) in enumerate(training.batches):
        for group in training.optimizer.param_groups:
            group["lr"] = rate_at(step)
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target)
        loss.backward()
        training.optimizer.step()
        monitor.step(loss)


class _Speaker(nn.Module):
    """The next of 12 words at each place, by a recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(12, 24), nn.GRU(24, 64, batch_first=True)
        self.out = nn.Linear(64, 12)

    def forward(self, words_NT: Tensor) -> Tensor:
        return self.out(self.recurrent(self.embedding(words_NT))[0]).transpose(1, 2)


@second(
    "tsudalab/ChemTS#3",
    right={"FL401"},
    words=("learning rate", "lr="),
    treatment="learning rate",
    line="optimizer = Adam(lr=0.003) (and not 0.1)",
    counts="That the rate is too high.",
)
def recurrence_at_too_high_a_rate(is_sick: bool) -> Training:
    """The next symbol is predicted by a recurrence at too high a rate: what is learnt at first gets lost again."""
    words = sentences(640, 17)
    model = _Speaker()
    optimizer = torch.optim.Adam(model.parameters(), 0.1 if is_sick else 3e-3)
    return Training(model, epochs_of(words[:, :-1], words[:, 1:], 32, 6), F.cross_entropy, optimizer)


@second(
    "sachaguer/jaxili#16",
    right={"FL402", "FL407", "schedule"},
    words=("schedule", "warm", "learning rate"),
    line="schedule = warmup_cosine(steps=steps_of_this_training) (and not of the most epochs that it may take)",
    counts="That the rate is far too low, or the schedule hardly gets out of its warm-up.",
)
def schedule_of_epochs_that_never_come(is_sick: bool) -> Training:
    """A schedule is laid out for thousands of epochs, long before which training is stopped: its warm-up never ends."""
    model = perceptron(64, 64, 10)
    total = 50_000 if is_sick else 336

    def rate_at(step: int) -> float:
        warm = total // 10
        return (
            0.2 * (step + 1) / warm if step < warm else 0.1 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
        )

    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    batches = epochs_of(*digits(), 32, 6)
    return Training(model, batches, F.cross_entropy, optimizer, partial(at_rates, rate_at=rate_at))


class _Blocks(nn.Module):
    """A language model of three blocks of attention, without norms. (N, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(12, 32), nn.Parameter(0.1 * torch.randn(16, 32))
        self.given = nn.ModuleList([nn.Linear(32, 96) for _ in range(3)])
        self.after = nn.ModuleList([perceptron(32, 64, 32) for _ in range(3)])
        self.out = nn.Linear(32, 12)

    def forward(self, words_NT: Tensor) -> Tensor:
        hidden = self.embedding(words_NT) + self.place
        for given, after in zip(self.given, self.after, strict=True):
            query, key, value = given(hidden)[:, None].chunk(3, -1)
            hidden = hidden + F.scaled_dot_product_attention(query, key, value, is_causal=True)[:, 0]
            hidden = hidden + after(hidden)
        return self.out(hidden).transpose(1, 2)


@second(
    "karpathy/nanoGPT#136",
    right={"FL102", "FL103", "FL401"},
    words=("learning rate", "lr="),
    treatment="learning rate",
    line="learning_rate = 0.03 (a lower one: it was that of a larger machine)",
    counts="That the rate is too high, or that weights, gradients or the loss grow without bound by it.",
)
def rate_at_which_words_become_nan(is_sick: bool) -> Training:
    """A language model keeps the rate of a larger machine: after some steps its loss is NaN."""
    words = sentences(640, 17)
    model = _Blocks()
    optimizer = torch.optim.SGD(model.parameters(), 1.0 if is_sick else 0.03, momentum=0.9)
    return Training(model, epochs_of(words[:, :-1], words[:, 1:], 32, 6), F.cross_entropy, optimizer)


@second(
    "datascience.stackexchange.com/questions/81295",
    right={"FL202", "FL401"},
    words=("learning rate", "lr="),
    treatment="learning rate",
    line="eta = 0.5 (and not that of the book)",
    counts="That the rate is too high, or that the sigmoids are saturated by it.",
)
def rate_of_a_book(is_sick: bool) -> Training:
    """A network of sigmoids is trained at the rate of a book, at which its answers are as good as random."""
    images, target = digits()
    model = perceptron(64, 30, 10, activation=nn.Sigmoid, last=nn.Sigmoid())

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(output, F.one_hot(target, 10).float(), reduction="sum") / len(output)

    optimizer = torch.optim.SGD(model.parameters(), 30.0 if is_sick else 0.5)
    return Training(model, epochs_of(images, target, 10, 2), loss_fn, optimizer)


@second(
    "community.deeplearning.ai/t/394676",
    right={"FL402"},
    words=("learning rate", "lr="),
    treatment="learning rate",
    line="optimizer = Adam(2.55) (and not the default)",
    counts="That the rate is too low, or that training is too short for it.",
)
def two_points_at_a_small_rate(is_sick: bool) -> Training:
    """One neuron is to tell -1 from 1, at a default rate: the loss gets nowhere near 0, as it could."""
    inputs = torch.tensor([[-1.0], [1.0]]).repeat(60, 1)
    target = torch.tensor([[1.0], [0.0]]).repeat(60, 1)
    model = nn.Linear(1, 1)

    def measure(output: Tensor, target: Tensor) -> float:
        return float((1 - (output.sigmoid() - target).abs()).mean())

    optimizer = torch.optim.Adam(model.parameters(), 1e-3 if is_sick else 0.5)
    batches = epochs_of(inputs, target, 2, 3, shuffle=False)
    return Training(model, batches, F.binary_cross_entropy_with_logits, optimizer, measure=measure)


def _known() -> nn.Sequential:
    """A perceptron that was trained on which digit an image is, without its last layer."""
    images, target = digits()
    whole = perceptron(64, 64, 32, 10)
    optimizer = torch.optim.Adam(whole.parameters(), 3e-3)
    for inputs, classes in epochs_of(images[:900], target[:900], 32, 8):
        optimizer.zero_grad()
        F.cross_entropy(whole(inputs), classes).backward()
        optimizer.step()
    return nn.Sequential(*list(whole)[:-1])


@second(
    "ThilinaRajapakse/simpletransformers#234",
    right={"FL402", "FL405"},
    words=("learning rate", "lr=", "param_groups", "group"),
    treatment="learning rate",
    line='groups = [{"params": body.parameters(), "lr": 4e-5}, {"params": head.parameters(), "lr": 1e-3}]',
    counts="That the rate is too low for the new layer: it has hardly moved.",
)
def new_layer_at_the_rate_of_the_old(is_sick: bool) -> Training:
    """A new last layer is trained at the rate of the pretrained ones, which is far too low for it."""
    images, target = digits()
    wanted = torch.stack([target % 2 == 0, target > 4, target % 3 == 0, (target == 2) | (target == 7)], 1).float()
    body, head = _known(), nn.Linear(32, 4)
    groups = [{"params": body.parameters(), "lr": 4e-5}, {"params": head.parameters(), "lr": 4e-5 if is_sick else 3e-3}]
    model = nn.Sequential(body, head)
    batches = epochs_of(images[900:], wanted[900:], 16, 4)
    return Training(model, batches, F.binary_cross_entropy_with_logits, torch.optim.Adam(groups))


@second(
    "MIC-DKFZ/nnUNet#197",
    right={"FL401", "FL403", "schedule"},
    words=("schedule", "learning rate", "decay"),
    line="lr = poly(epoch, max_epochs=1000) (or 2000 from the first epoch on)",
    counts="That the schedule jumps up again in the midst of training, or that the rate is too high at the end.",
)
def schedule_that_is_prolonged(is_sick: bool) -> Training:
    """Training goes on with more epochs: the schedule, which is a share of all of them, jumps up from nearly 0."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1600, 20, generator=generator)
    target = inputs @ torch.randn(20, 1, generator=generator) / 20**0.5 + 0.7 * torch.randn(
        1600, 1, generator=generator
    )
    model = nn.Linear(20, 1)

    def rate_at(step: int) -> float:
        total = 200 if step < 200 else 2000
        return 0.2 * max(0.0, 1 - step / (total if is_sick else 400)) ** 0.9

    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    batches = epochs_of(inputs, target, 8, 2)
    return Training(model, batches, F.mse_loss, optimizer, partial(at_rates, rate_at=rate_at))
