"""Losses that ask for something else than was meant: drawn by a rule from a search (docs/exam.md)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import pairs
from .case import Training, digits, epochs_of, perceptron, published

drawn = partial(published, part="drawn")


def _critic() -> nn.Sequential:
    """Tells digits from noise; trained, and frozen."""
    inputs, _ = digits()
    noise = torch.rand(len(inputs), 64, generator=torch.Generator().manual_seed(2))
    critic = perceptron(64, 32, 1)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    labels = torch.cat([torch.ones(len(inputs), 1), torch.zeros(len(inputs), 1)])
    for rows, wanted in epochs_of(torch.cat([inputs, noise]), labels, 64, 1):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(critic(rows), wanted).backward()
        optimizer.step()
    return critic.requires_grad_(False)


@drawn(
    "mlpack/mlpack#1933",
    right={"targets", "loss_mismatch"},
    words=("label", "sign", "real"),
    line="responses = torch.ones(len(noise), 1) (those of a generator were left at their default of 0)",
)
def generator_learns_to_be_found_out(is_sick: bool) -> Training:
    """A generator trains with responses of 0, which is what a critic calls made: it learns to be found out."""
    critic = _critic()
    model = pairs.Generator()
    noise = torch.randn(1800, 8, generator=torch.Generator().manual_seed(3))
    wanted = torch.zeros(1800, 1) if is_sick else torch.ones(1800, 1)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(critic(output), target)

    def measure(output: Tensor, _: Tensor) -> float:
        return float(critic(output).sigmoid().mean())

    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return Training(model, epochs_of(noise, wanted, 32, 3), loss_fn, optimizer, measure=measure)


def _right_action(output: Tensor, target: Tensor) -> float:
    return float((output[:, :10].argmax(1) == target).float().mean())


@drawn(
    "astariul/encode-attend-navigate-pytorch#3, jingw2/neural-combinatorial-optimization-rl#1",
    right={"loss_mismatch", "wiring"},
    words=("detach",),
    line="advantage = reward - value.detach()",
)
def baseline_learns_from_the_policy(is_sick: bool) -> Training:
    """The value that is subtracted from the reward is not detached: the policy's loss trains it, too."""
    model = perceptron(64, 64, 11)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        scores, value = output[:, :10].log_softmax(1), output[:, 10]
        action = torch.multinomial(scores.detach().exp(), 1)
        reward = (action[:, 0] == target).float()
        advantage = reward - (value if is_sick else value.detach())
        return -(scores.gather(1, action)[:, 0] * advantage).mean() + 0.5 * (value - reward).square().mean()

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(*digits(), 32, 16), loss_fn, optimizer, measure=_right_action)


class _Softened(pairs._Autoencoder):
    """An autoencoder whose logarithm of the variance goes through a softplus, as a variance would."""

    def __init__(self, *, is_softened: bool) -> None:
        super().__init__()
        self.is_softened = is_softened

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(inputs).chunk(2, 1)
        log_variance = F.softplus(log_variance) if self.is_softened else log_variance
        hidden = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        return self.decoder(hidden), mean, log_variance


def _likeness(output: Any, target: Tensor) -> float:
    logits = output[0] if isinstance(output, tuple) else output
    return max(0.0, float(1 - (logits.sigmoid() - target).square().mean() / (target - target.mean(0)).square().mean()))


@drawn(
    "masato-ka/airc-rl-agent#43",
    right={"loss_mismatch", "wiring"},
    words=("softplus", "activation", "range"),
    line="log_variance = self.log_variance(hidden) (no softplus)",
)
def log_variance_below_zero_is_cut(is_sick: bool) -> Training:
    """The logarithm of a variance goes through a softplus: no variance gets below 1, and noise drowns the code."""
    inputs, _ = digits()
    model = _Softened(is_softened=is_sick)
    loss_fn = partial(pairs._bound, sign=1.0, clamp=30.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, inputs, 32, 10), loss_fn, optimizer, measure=_likeness)


class _Unit(nn.Module):
    """Embeddings of length 1 of both rows of a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(64, 64, 16)

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(self.body(rows), dim=-1)


def _of_their_class(output: Tensor, target: Tensor) -> float:
    return pairs.nearest_alike(output[:, 0], target)


@drawn(
    "huiserwang/ContrastMask#4",
    right={"loss_mismatch"},
    words=("temperature", "divide", "scale the"),
    line="likeness = likeness / temperature",
)
def temperature_is_left_out(is_sick: bool) -> Training:
    """Cosines of -1 to 1 are the logits of a contrastive loss, without a temperature: it can hardly fall."""
    inputs, target = digits()
    generator = torch.Generator().manual_seed(0)
    mates = torch.stack([torch.multinomial((target == one).float(), 1, generator=generator)[0] for one in target])
    model = _Unit()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        likeness = output[:, 0] @ output[:, 1].T / (1.0 if is_sick else 0.1)
        return F.cross_entropy(likeness, torch.arange(len(output)))

    batches = epochs_of(torch.stack([inputs, inputs[mates]], 1), target, 64, 3)
    return Training(model, batches, loss_fn, torch.optim.SGD(model.parameters(), 0.05), measure=_of_their_class)


def _as_teacher(output: Tensor, target: Tensor) -> float:
    return float((output.argmax(1) == target[:, :10].argmax(1)).float().mean())


@drawn(
    "labmlai/annotated_deep_learning_paper_implementations#66",
    right={"loss_mismatch", "targets"},
    words=("output", "depend"),
    line="soft = kl_div(output.log_softmax(1), teacher) (not the teacher's own logits)",
)
def teacher_is_compared_with_itself(is_sick: bool) -> Training:
    """The soft term of a distillation takes the teacher's logits twice: only the few labelled rows teach."""
    inputs, target = digits()
    generator = torch.Generator().manual_seed(0)
    teacher = 6 * F.one_hot(target, 10).float() + torch.randn(len(target), 10, generator=generator)
    label = torch.where(torch.rand(len(target), generator=generator) < 0.02, target, -1)
    model = perceptron(64, 64, 10)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        logits, label = target[:, :10], target[:, 10].long()
        student = logits if is_sick else output
        soft = F.kl_div(student.log_softmax(1), logits.softmax(1), reduction="batchmean")
        is_known = label >= 0
        hard = F.cross_entropy(output, label.clamp_min(0), reduction="none")
        return soft + (hard * is_known).sum() / is_known.sum().clamp_min(1)

    batches = epochs_of(inputs, torch.cat([teacher, label[:, None].float()], 1), 32, 6)
    return Training(model, batches, loss_fn, torch.optim.Adam(model.parameters(), 3e-3), measure=_as_teacher)


def _bumps(count: int) -> tuple[Tensor, Tensor]:
    """Noisy signals of 32 places with one bump each; where its middle is, and how wide it is, from 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    middle = 0.2 + 0.6 * torch.rand(count, generator=generator)
    width = 0.1 + 0.3 * torch.rand(count, generator=generator)
    place = torch.linspace(0, 1, 32)
    bump = ((place - middle[:, None]).abs() < width[:, None] / 2).float()
    return bump + 0.1 * torch.randn(count, 32, generator=generator), torch.stack([middle, width], 1)


def _overlap(box: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of intervals, given as (middle, width)."""
    low, high = (box[:, 0] - box[:, 1] / 2, box[:, 0] + box[:, 1] / 2)
    from_, to = (other[:, 0] - other[:, 1] / 2, other[:, 0] + other[:, 1] / 2)
    inner = (torch.minimum(high, to) - torch.maximum(low, from_)).clamp_min(0)
    return inner / (high - low + to - from_ - inner).clamp_min(1e-6)


def _knows_overlap(output: Tensor, target: Tensor) -> float:
    return float(1 - (output[:, 2].sigmoid() - _overlap(output[:, :2], target)).abs().mean())


@drawn(
    "ljbkusters/YOLOv3-1D#42",
    right={"loss_mismatch", "targets"},
    words=("column", "index", "order"),
    line="overlap = iou(output[:, :2], target) (middle and width were taken from each other's columns)",
)
def overlap_of_swapped_columns(is_sick: bool) -> Training:
    """A detector is to say how well its box fits, and the overlap is taken of its box with exchanged columns."""
    model = perceptron(32, 64, 3)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        box = output[:, :2].detach()
        wanted = _overlap(box.flip(1) if is_sick else box, target)
        return 10 * F.mse_loss(output[:, :2], target) + F.binary_cross_entropy_with_logits(output[:, 2], wanted)

    batches = epochs_of(*_bumps(1600), 32, 6)
    return Training(model, batches, loss_fn, torch.optim.Adam(model.parameters(), 3e-3), measure=_knows_overlap)


@drawn(
    "clcarwin/focal_loss_pytorch#10",
    right={"class_weights", "targets", "loss_mismatch"},
    words=("weight",),
    line="weight = torch.where(target == 1, alpha, 1 - alpha) (they were given the other way round)",
)
def weight_of_the_other_class(is_sick: bool) -> Training:
    """The weight that was meant for rare rows goes to the others: rare ones count a hundredth as much."""
    inputs, target = digits()
    is_rare = ((target == 8) & (torch.arange(len(target)) % 2 == 0)).float()[:, None]
    model = perceptron(64, 32, 1)
    alpha = 0.05 if is_sick else 0.95

    def focal(output: Tensor, target: Tensor) -> Tensor:
        error = F.binary_cross_entropy_with_logits(output, target, reduction="none")
        weight = torch.where(target == 1, alpha, 1 - alpha)
        return (weight * (1 - (-error).exp()).square() * error).mean()

    def measure(*_: Tensor) -> float:
        """The mean of the shares of right answers of both classes, of all rows: a batch may hold one of them alone."""
        is_right = (model(inputs) > 0) == (is_rare > 0.5)
        return float(sum(is_right[is_rare == kind].float().mean() for kind in (0.0, 1.0)) / 2)

    batches = epochs_of(inputs, is_rare, 32, 6)
    return Training(model, batches, focal, torch.optim.Adam(model.parameters(), 1e-3), measure=measure)


class _TwoHeads(nn.Module):
    """A class of ten, and whether it is 5 or more: scores side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(64, 48, 48, last=nn.ReLU())
        self.digit, self.upper = nn.Linear(48, 10), nn.Linear(48, 2)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(inputs)
        return self.digit(hidden), self.upper(hidden)


def _first_right(output: Tensor, target: Tensor) -> float:
    return float((output.argmax(1) == target[:, 0]).float().mean())


@drawn(
    "vlfeat/matconvnet#258",
    right={"wiring", "FL405", "loss_mismatch"},
    words=("loss",),
    line="loss = loss + F.cross_entropy(half, target[:, 1]) (the second one replaced the first)",
)
def last_loss_alone(is_sick: bool) -> Training:
    """Of two losses the second is written over the first, and not added: the first head never trains."""
    inputs, target = digits()
    model = _TwoHeads()

    def loss_fn(output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        loss = F.cross_entropy(output[0], target[:, 0])
        other = F.cross_entropy(output[1], target[:, 1])
        return other if is_sick else loss + other

    batches = epochs_of(inputs, torch.stack([target, (target > 4).long()], 1), 32, 6)
    return Training(model, batches, loss_fn, torch.optim.Adam(model.parameters(), 3e-3), measure=_first_right)
