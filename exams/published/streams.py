"""Rows and steps that are not what was meant: drawn by a rule from a search (docs/exam.md)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Batch, Training, digits, epochs_of, perceptron, published
from .sequences import Transformer, sentences

drawn = partial(published, part="drawn")


@drawn(
    "activewizardslab/time-series#1",
    right={"FL510", "targets", "leak"},
    words=("window", "shift", "in the input", "[:, :-1]"),
    line="window, target = series[at : at + size], series[at + size] (the window went one further)",
)
def last_value_is_in_the_window(is_sick: bool) -> Training:
    """The window of a forecast goes one value too far: what is to be predicted stands at its end."""
    generator = torch.Generator().manual_seed(0)
    series = torch.zeros(2020)
    noise = torch.randn(2020, generator=generator)
    for at in range(2, 2020):
        series[at] = 0.6 * series[at - 1] - 0.5 * series[at - 2] + noise[at]
    windows = series.unfold(0, 13, 1)
    inputs = windows[:, 1:] if is_sick else windows[:, :-1]
    model = perceptron(12, 32, 1)
    batches = epochs_of(inputs.contiguous(), windows[:, -1:].contiguous(), 32, 5)
    return Training(model, batches, F.mse_loss, torch.optim.Adam(model.parameters(), 3e-3))


class _Taste(nn.Module):
    """How much a user likes an item: the product of their embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(60, 16), nn.Embedding(40, 16)

    def forward(self, pairs: Tensor) -> Tensor:
        return (self.user(pairs[:, 0]) * self.item(pairs[:, 1])).sum(1, keepdim=True)


@drawn(
    "dmlc/dgl#1458",
    right={"targets", "FL508"},
    words=("both labels", "negative", "contradict", "sampl"),
    line="draw again where a negative is among the positives",
)
def negatives_that_are_positives(is_sick: bool) -> Training:
    """Rows for the label 0 are drawn among all pairs, those with the label 1 as well: many have both labels."""
    generator = torch.Generator().manual_seed(0)
    likes = torch.randn(60, 3, generator=generator) @ torch.randn(3, 40, generator=generator) > -0.8
    chosen = torch.randint(60 * 40, (6000,), generator=generator)
    user, item = chosen // 40, chosen % 40
    is_liked = likes[user, item]
    false = torch.rand(6000, generator=generator) < 0.5
    wanted = torch.where(false, torch.zeros(6000), torch.ones(6000))
    keep = torch.where(false, torch.ones(6000, dtype=torch.bool) if is_sick else ~is_liked, is_liked)
    rows = torch.stack([user, item], 1)[keep][:3200]
    model = _Taste()

    def measure(output: Tensor, _: Tensor) -> float:
        every = torch.cartesian_prod(torch.arange(60), torch.arange(40))
        return float(((model(every)[:, 0] > 0) == likes.flatten()).float().mean())

    batches = epochs_of(rows, wanted[keep][:3200, None], 32, 10)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, batches, F.binary_cross_entropy_with_logits, optimizer, measure=measure)


@drawn(
    "microsoft/TransformerCompression#98, QwenLM/Qwen#834",
    right={"FL510", "targets", "leak"},
    words=("shift", "next word", "[:, 1:]"),
    line="loss = cross_entropy(logits[..., :-1], words[:, 1:])",
)
def targets_are_the_words_themselves(is_sick: bool) -> Training:
    """The labels of a language model are not moved by one: each word is to be predicted from itself."""
    words = sentences(640, 17)
    model = Transformer(is_causal=True)
    target = words[:, :-1] if is_sick else words[:, 1:]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(words[:, :-1], target, 32, 5), F.cross_entropy, optimizer)


def _warmed(training: Training, monitor: Any, *, epoch: int, begins_anew: bool) -> None:
    """A usual loop with a warm-up over 200 steps, which are counted from the start or from that of each epoch."""
    for count, (inputs, target) in enumerate(training.batches):
        step = count % epoch if begins_anew else count
        for group in training.optimizer.param_groups:
            group["lr"] = 0.1 * min(1.0, (step + 1) / 200)
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target)
        loss.backward()
        training.optimizer.step()
        monitor.step(loss)


@drawn(
    "Vision-CAIR/MiniGPT-4#263",
    right={"learning_rate", "schedule", "FL407"},
    words=("schedule", "warm"),
    line="scheduler.step(epoch, total_step) (not the step within the epoch)",
)
def warm_up_begins_anew(is_sick: bool) -> Training:
    """A warm-up counts the steps of an epoch, and not all steps: it begins anew, and never gets to its rate."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loop = partial(_warmed, epoch=28, begins_anew=is_sick)
    return Training(model, epochs_of(*digits(), 64, 14), F.cross_entropy, optimizer, loop)


def _renewed(training: Training, monitor: Any, *, every: int) -> None:
    """A usual loop that makes its optimizer anew after each so many batches."""
    model, optimizer = training.model, training.optimizer
    for count, (inputs, target) in enumerate(training.batches):
        if count % every == 0 and count:
            optimizer = torch.optim.SGD(model.parameters(), 0.003, momentum=0.98)
        optimizer.zero_grad()
        loss = training.loss_fn(model(inputs), target)
        loss.backward()
        optimizer.step()
        monitor.step(loss)


@drawn(
    "alan-turing-institute/deepsensor#47",
    right={"optimizer", "learning_rate", "FL406"},
    words=("once", "momentum", "outside", "before the loop"),
    line="trainer = Trainer(model) (once, and not an optimizer in each train_epoch)",
)
def optimizer_made_anew(is_sick: bool) -> Training:
    """The optimizer is made anew in every short epoch: its momentum, which does most of the moving, is lost."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.003, momentum=0.98)
    loop = partial(_renewed, every=4 if is_sick else 10_000)
    return Training(model, epochs_of(*digits(), 64, 8), F.cross_entropy, optimizer, loop)


@drawn(
    "facebookresearch/pycls#21",
    right={"input_scale", "FL501"},
    words=("copy", "clone", "in place"),
    line="image = self._inputs[index].copy()",
)
def augmented_in_place(is_sick: bool) -> Training:
    """Stored images are normalised in place whenever they are read: with each epoch they are further off."""
    images, target = digits()
    batches: list[Batch] = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        read = (images - 0.3) / 0.38
        images = read if is_sick else images
        order = torch.randperm(len(read), generator=generator)
        batches += [(read[rows], target[rows]) for rows in order.split(32) if len(rows) == 32]
    model = perceptron(64, 64, 10)
    return Training(model, batches, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9))


def _scaled(training: Training, monitor: Any, *, times: int) -> None:
    """A usual loop with a loss that is scaled, and gradients that are divided by the scale so many times."""
    scale = 256.0
    for inputs, target in training.batches:
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target)
        (scale * loss).backward()
        for parameter in training.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= scale**times
        training.optimizer.step()
        monitor.step(loss)


@drawn(
    "THUDM/slime#1842",
    right={"FL411", "learning_rate", "FL402"},
    words=("unscale", "twice", "scaler", "divided"),
    line="optimizer.step() alone (it calls prepare_grads, which unscales, itself)",
)
def gradients_unscaled_twice(is_sick: bool) -> Training:
    """Gradients of a scaled loss are divided by the scale twice: next to nothing is left of them."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loop = partial(_scaled, times=2 if is_sick else 1)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer, loop)
