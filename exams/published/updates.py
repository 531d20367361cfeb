"""Optimizers, schedules and norms that a loop uses wrongly: of the fourth draw (docs/exam.md)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron
from .misfits import fourth

Schedule = Callable[[torch.optim.Optimizer], Any]


@fourth(
    "pytorch/executorch#6039",
    right={"FL405", "FL406", "refused", "wiring", "optimizer"},
    words=("optimizer", "parameters()", "clone", "copies"),
    line="optimizer = torch.optim.SGD(net.named_parameters()) (which gave clones of the weights)",
    counts="That the optimizer moves copies of the weights, and not those of the network.",
)
def optimizer_of_clones(is_sick: bool) -> Training:
    """The optimizer is made of copies of the weights: the network's own never change."""
    model = perceptron(64, 64, 10)
    own = [nn.Parameter(p.detach().clone()) for p in model.parameters()] if is_sick else list(model.parameters())
    optimizer = torch.optim.SGD(own, 0.1, momentum=0.9)
    return Training(model, epochs_of(*digits(), 32, 4), F.cross_entropy, optimizer)


class _Filters(nn.Module):
    """Cosines whose frequencies are learnt, kept between bounds. (N, 64) to (N, 4, 64)."""

    def __init__(self, *, cuts: bool) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor([0.05, 0.1, 0.15, 0.2]))
        self.cuts = cuts

    def _bounded(self) -> Tensor:
        if self.cuts:
            with torch.no_grad():
                return self.frequency.clamp(0.01, 3.0)
        return self.frequency.clamp(0.01, 3.0)

    def forward(self, waves: Tensor) -> Tensor:
        at = torch.arange(-4, 5)
        kernels = (self._bounded()[:, None] * at).cos() * (-(at / 3).square()).exp()
        return F.conv1d(waves[:, None], kernels[:, None], padding=4)


@fourth(
    "denfed/leaf-audio-pytorch#3",
    right={"FL405", "wiring"},
    words=("no_grad", "detach", "gradient", "does not train", "do not train"),
    line="(no torch.no_grad() around) kernel = clamp(self.kernel)",
    counts="That the filters get no gradient, and never change.",
)
def filters_bounded_without_gradient(is_sick: bool) -> Training:
    """Filters of sounds are kept between bounds within no_grad: they get no gradient, and stay what they were."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(4, (1600,), generator=generator)
    pitch = torch.tensor([1.0, 1.25, 1.5, 1.75])[classes, None]
    phase = 6.283 * torch.rand(1600, 1, generator=generator)
    noise = 0.6 * torch.randn(1600, 64, generator=generator)
    low = 3 * torch.cos(0.15 * torch.arange(64) + 6.283 * torch.rand(1600, 1, generator=generator))
    waves = torch.cos(pitch * torch.arange(64) + phase) + low + noise
    filters = _Filters(cuts=is_sick)

    class Loudness(nn.Module):
        """The logarithm of the power of each channel."""

        def forward(self, heard: Tensor) -> Tensor:
            return (heard.square().mean(2) + 1e-3).log()

    model = nn.Sequential(filters, Loudness(), nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(
        [{"params": filters.parameters(), "lr": 2e-2}, {"params": model[2:].parameters()}], 1e-2
    )
    return Training(model, epochs_of(waves, classes, 32, 8), F.cross_entropy, optimizer)


def _scheduled(training: Training, monitor: Any, *, make: Schedule, size: int, by_loss: bool) -> None:
    """A schedule that steps after each `size` batches, perhaps with the mean of their losses."""
    schedule, losses = make(training.optimizer), list[float]()
    for count, (inputs, target) in enumerate(training.batches, 1):
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target)
        loss.backward()
        training.optimizer.step()
        losses.append(float(loss.detach()))
        if count % size == 0:
            schedule.step(*([sum(losses[-size:]) / size] if by_loss else []))
        monitor.step(loss)


_RIGHT = {"FL407", "FL402", "schedule", "learning_rate"}


@fourth(
    "automl/Auto-PyTorch#210",
    right=_RIGHT,
    words=("scheduler.step", "schedule", "per epoch", "each epoch"),
    line="    scheduler.step() (after each epoch, and not after each batch)",
    counts="That the rate of the schedule falls far too early, since it steps after each batch.",
)
def schedule_of_epochs_stepped_by_batches(is_sick: bool) -> Training:
    """A schedule over ten epochs steps after each batch: the rate is 0 after ten batches, and stays there."""
    model = perceptron(64, 64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.02)

    def make(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 10) ** 2)

    loop = partial(_scheduled, make=make, size=1 if is_sick else 56, by_loss=False)
    return Training(model, epochs_of(*digits(), 32, 10), F.cross_entropy, optimizer, loop)


@fourth(
    "RMeli/gnina-torch#57",
    right=_RIGHT,
    words=("schedule", "mode", "falls", "plateau", "rate"),
    line='ReduceLROnPlateau(optimizer, mode="min") (and not "max": the loss is to fall)',
    counts="That the rate is lowered far too early: the schedule takes a loss that falls for one that gets worse.",
)
def plateau_of_a_loss_that_should_rise(is_sick: bool) -> Training:
    """A schedule is told that the loss should rise: as it falls, the rate is divided by ten again and again."""
    model = perceptron(64, 64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.02)

    def make(optimizer: torch.optim.Optimizer) -> Any:
        mode = "max" if is_sick else "min"
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, patience=2, factor=0.1)

    loop = partial(_scheduled, make=make, size=14, by_loss=True)
    return Training(model, epochs_of(*digits(), 32, 12), F.cross_entropy, optimizer, loop)


def _accumulated(training: Training, monitor: Any, *, size: int) -> None:
    """A step after each `size` batches, whose gradients are averaged."""
    training.optimizer.zero_grad()
    for count, (inputs, target) in enumerate(training.batches, 1):
        loss = training.loss_fn(training.model(inputs), target) / size
        loss.backward()
        if count % size == 0:
            training.optimizer.step()
            training.optimizer.zero_grad()
        monitor.step(loss)


@fourth(
    "andreped/GradientAccumulator#22",
    right={"FL602", "FL601", "batchnorm"},
    words=("batch size", "batchnorm", "groupnorm", "small batch", "larger batch"),
    line="nn.GroupNorm(4, 16) (and not BatchNorm, which sees two images, however many batches are added up)",
    counts="That a BatchNorm sees batches of two, which accumulated gradients do not change.",
)
def two_images_for_a_norm(is_sick: bool) -> Training:
    """Gradients of eight batches of two images are added up, and each BatchNorm sees two images alone."""
    images, classes = digits(1, 8, 8)

    def norm() -> nn.Module:
        return nn.BatchNorm2d(16) if is_sick else nn.GroupNorm(4, 16)

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), norm(), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), norm(),
        nn.ReLU(), nn.Conv2d(16, 16, 2), norm(), nn.ReLU(), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batches = epochs_of(images, classes, 2, 2)
    return Training(model, batches, F.cross_entropy, optimizer, partial(_accumulated, size=8))
