"""Rows, windows and boxes that are not what was meant, or come too often: of the third draw (docs/exam.md)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Batch, Training, digits, epochs_of, perceptron, published
from .examples import explained, squares

third = partial(published, part="third draw")


def _shifted(images_N64: Tensor, generator: torch.Generator) -> Tensor:
    """Each image, moved by up to two pixels."""
    wide = F.pad(images_N64.reshape(-1, 8, 8), (2, 2, 2, 2))
    at_N2 = torch.randint(5, (len(wide), 2), generator=generator)
    rows, columns = (at_N2[:, one, None] + torch.arange(8) for one in (0, 1))
    return wide[torch.arange(len(wide))[:, None, None], rows[:, :, None], columns[:, None]].flatten(1)


@third(
    "eiriniar/gleason_CNN#1",
    right={"overfitting"},
    words=("augment", "more data", "more rows", "too few", "by heart", "memori", "overfit"),
    line="images = augmented(images) (a fault in the script switched it off)",
    counts="That rows are learnt by heart: there are too few of them, or they lack variety.",
)
def augmentation_is_switched_off(is_sick: bool) -> Training:
    """A fault in the script for augmentation disables it: few images, always the same, are soon known by heart."""
    images, target = digits()
    generator = torch.Generator().manual_seed(0)
    batches: list[Batch] = []
    for _ in range(40):
        order = torch.randperm(480, generator=generator)
        seen = images[order] if is_sick else _shifted(images[order], generator)
        batches += list(zip(seen.split(32), target[order].split(32), strict=True))
    others, asked = _shifted(images[800:], generator), target[800:]
    model = perceptron(64, 128, 10)

    def measure(_: Tensor, __: Tensor) -> float:
        return float((model(others).argmax(1) == asked).float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, batches, F.cross_entropy, optimizer, measure=measure)


def _overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4): first and last row and column, the last one not in it."""
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    one, other = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (first, second))
    return shared / (one + other - shared)


def _anchors(size: float) -> Tensor:
    """(144, 4) a box of this size around each pixel of an image of 12 by 12."""
    middle = torch.stack(torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij"), -1).flatten(0, 1) + 0.5
    return torch.cat([middle - size / 2, middle + size / 2], 1)


@third(
    "fizyr/keras-retinanet#1343",
    right={"FL508", "FL509", "targets", "imbalance"},
    words=("anchor", "background", "one class", "label", "target"),
    line="anchors = those of the size of the objects (debug.py showed that none covered any)",
    counts="That all targets are of one class: no anchor has an object, all are background.",
)
def anchors_larger_than_everything(is_sick: bool) -> Training:
    """Anchors are so large that none overlaps an object by half: each of them is told to be background."""
    images, corners = squares(1200)
    boxes = torch.cat([corners[:, :2], corners[:, 2:] + 1], 1)
    anchors = _anchors(9.0 if is_sick else 4.0)
    target = (_overlap(boxes[:, None], anchors) >= 0.5).float()
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(),
        nn.Conv2d(12, 1, 3, padding=1), nn.Flatten(),
    )  # fmt: skip

    def measure(_: Tensor, __: Tensor) -> float:
        middle = anchors[model(images[1000:]).argmax(1)].unflatten(1, (2, 2)).mean(1)
        is_inside = (middle > boxes[1000:, :2]) & (middle < boxes[1000:, 2:])
        return float(is_inside.all(1).float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batches = epochs_of(images[:1000], target[:1000], 32, 4)
    return Training(model, batches, F.binary_cross_entropy_with_logits, optimizer, measure=measure)


def _returns(count: int) -> Tensor:
    """A price near 1.1 that moves by some ten-thousandths, and goes on in the direction of the last two steps."""
    generator = torch.Generator().manual_seed(0)
    move = torch.zeros(count)
    noise = 2e-4 * torch.randn(count, generator=generator)
    for at in range(2, count):
        move[at] = 1.2 * move[at - 1] - 0.8 * move[at - 2] + noise[at]
    return 1.1 + move


@third(
    "vincent05r/FinCast-fts#8, huggingface/transformers#42099",
    right={"FL501", "FL505", "input_scale"},
    words=("standardi", "scale", "normali"),
    treatment="inputs and targets to scale",
    line="sigma = torch.where(sigma < tolerance, tolerance, sigma) (and not 1.0)",
    counts="That inputs, or targets, are in far too small a unit.",
)
def deviations_below_one_count_as_one(is_sick: bool) -> Training:
    """Windows are divided by their deviation, which is set to 1 where it is below 1: all of them stay near 0."""
    windows = _returns(2013).unfold(0, 13, 1)
    mean, deviation = windows[:, :-1].mean(1, keepdim=True), windows[:, :-1].std(1, keepdim=True)
    deviation = deviation.clamp_min(1.0 if is_sick else 1e-6)
    normed = (windows - mean) / deviation
    model = perceptron(12, 32, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(normed[:, :-1], normed[:, -1:], 32, 5), F.mse_loss, optimizer, measure=explained)


def _events(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(strain_ND, parameters_N2): noisy signals, and the frequency and the place of what is in them."""
    parameters = torch.rand(count, 2, generator=generator)
    place = torch.linspace(0, 1, 64)
    width = 0.05 + 0.15 * parameters[:, :1]
    strain = (-((place - parameters[:, 1:]) / width).square()).exp()
    return strain + 0.5 * torch.randn(count, 64, generator=generator), parameters


@third(
    "dingo-gw/dingo#233",
    right={"order", "FL507", "overfitting"},
    words=("shuffle", "repeat", "seed", "worker", "several times", "in a row", "by heart", "memori"),
    line="worker_init_fn=fix_random_seeds (each worker gets a seed of its own)",
    counts="That the same rows come several times in a row, or that there are few different ones, which are learnt by "
    "heart.",
)
def workers_with_one_seed(is_sick: bool) -> Training:
    """All 24 workers draw the same events, as they have one seed: each batch comes 24 times in a row."""
    generator = torch.Generator().manual_seed(0)
    each = 24 if is_sick else 1
    drawn = [_events(32, generator) for _ in range(360 // each)]
    batches = [batch for batch in drawn for _ in range(each)]
    strain, parameters = _events(1000, generator)
    model = perceptron(64, 128, 2)

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model(strain), parameters)

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, batches, F.mse_loss, optimizer, measure=measure)


@third(
    "PrimeIntellect-ai/prime-diloco#97, EleutherAI/gpt-neox#308",
    right={"overfitting", "order", "FL507"},
    words=("repeat", "resume", "restart", "by heart", "memori", "more rows", "same rows"),
    line='loader.load_state_dict(checkpoint["loader"]) (the state of the data was not restored)',
    counts="That the same few rows come again and again, and are learnt by heart.",
)
def data_begin_anew_at_each_restart(is_sick: bool) -> Training:
    """Training is restarted every four steps, and its data begin anew with the first batch: most are never seen."""
    images, target = digits()
    epochs = epochs_of(images, target, 16, 3)
    batches = epochs[:4] * (len(epochs) // 4) if is_sick else epochs
    model = perceptron(64, 64, 10)

    def measure(_: Tensor, __: Tensor) -> float:
        return float((model(images).argmax(1) == target).float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, batches, F.cross_entropy, optimizer, measure=measure)


class _Course(nn.Module):
    """What is at a time, how fast it changes, and what was at the start: (N, 1) to (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(1, 32, 32, 1, activation=nn.Tanh)

    def forward(self, time_N1: Tensor) -> Tensor:
        before, after = self.body(time_N1 - 1e-2), self.body(time_N1 + 1e-2)
        start = self.body(torch.zeros_like(time_N1))
        return torch.cat([self.body(time_N1), (after - before) / 2e-2, start], 1)


@third(
    "stats.stackexchange.com/questions/493558",
    right={"FL503", "FL509", "loss_mismatch", "imbalance"},
    words=("condition", "rare", "constant answer", "constant output", "hardly any row"),
    line="loss = residual.square().mean() + (start - 1).square().mean() (in each batch, and not where t is 0)",
    counts="That the loss is nearly 0 for a constant answer: the start condition counts in hardly any row.",
)
def start_condition_in_one_row(is_sick: bool) -> Training:
    """A differential equation is learnt, and its start condition counts in the row of time 0 alone: all becomes 0."""
    time = torch.linspace(0, 2, 801)[:, None]
    model = _Course()

    def loss_fn(output: Tensor, time: Tensor) -> Tensor:
        residual, start = output[:, 1] + 3 * output[:, 0], (output[:, 2] - 1).square()
        return residual.square().mean() + (start * (time[:, 0] == 0) if is_sick else start).mean()

    def measure(output: Tensor, time: Tensor) -> float:
        return explained(output[:, :1], (-3 * time).exp())

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(time, time, 32, 16), loss_fn, optimizer, measure=measure)
