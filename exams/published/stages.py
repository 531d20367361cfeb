"""Loops, schedules and stages in which too little is learnt, or too much: of the third draw (docs/exam.md)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published
from .examples import explained
from .speeds import at_rates

third = partial(published, part="third draw")


def _without_backward(training: Training, monitor: Any, *, skips: bool) -> None:
    """A usual loop, in which the line that makes the gradients is there or not."""
    for inputs, target in training.batches:
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target)
        if not skips:
            loss.backward()
        training.optimizer.step()
        monitor.step(loss)


@third(
    "thunlp/OpenBackdoor#3, aalto-intelligent-robotics/sivl#2",
    right={"FL405", "FL406", "FL607", "wiring", "optimizer"},
    words=("backward", "gradient"),
    line="loss.backward() (it stood in the other branch, or had been deleted)",
    counts="That no parameter gets a gradient, or that nothing moves.",
)
def backward_is_not_called(is_sick: bool) -> Training:
    """The line that makes the gradients was lost when the code was cleaned up: steps are taken without any."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loop = partial(_without_backward, skips=is_sick)
    return Training(model, epochs_of(*digits(), 32, 4), F.cross_entropy, optimizer, loop)


@third(
    "facebookresearch/ParlAI#4384",
    right={"FL401", "FL403", "FL407", "schedule"},
    words=("schedule", "decay", "lower the", "learning rate"),
    line="is_warming_up = updates < warmup_updates (and not last_lr < 1)",
    counts="That the rate is too high at the end, or that the schedule never lowers it.",
)
def warm_up_that_never_ends(is_sick: bool) -> Training:
    """A schedule is taken to be warming up for as long as its rate is below 1: it never begins to lower the rate."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1600, 20, generator=generator)
    noise = 1.5 * torch.randn(1600, 1, generator=generator)
    target = inputs @ torch.randn(20, 1, generator=generator) / 20**0.5 + noise
    clean = target - noise
    model = nn.Linear(20, 1)

    def rate_at(step: int) -> float:
        return 0.08 * min(1.0, (step + 1) / 20) * (1.0 if is_sick or step < 20 else 1 - (step - 20) / 780)

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model(inputs), clean)

    optimizer = torch.optim.SGD(model.parameters(), 0.004)
    loop = partial(at_rates, rate_at=rate_at)
    return Training(model, epochs_of(inputs, target, 4, 2), F.mse_loss, optimizer, loop, measure=measure)


def _body() -> nn.Sequential:
    """Convolutions that were trained on which digit an image is."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 64), nn.ReLU(),
    )  # fmt: skip
    images, target = digits(1, 8, 8)
    whole = nn.Sequential(body, nn.Linear(64, 10))
    optimizer = torch.optim.Adam(whole.parameters(), 3e-3)
    for inputs, classes in epochs_of(images[:1400], target[:1400], 32, 12):
        optimizer.zero_grad()
        F.cross_entropy(whole(inputs), classes).backward()
        optimizer.step()
    return body


@third(
    "ihciah/deep-fashion-retrieval#1",
    right={"FL401"},
    words=("learning rate", "lr=", "freeze", "frozen", "requires_grad"),
    treatment="learning rate",
    line="FREEZE_PARAM = True (the pretrained layers are not trained beside a new one, at its rate)",
    counts="That the rate is too high for the pretrained layers, or that these should be frozen.",
)
def pretrained_layers_at_the_rate_of_a_new_one(is_sick: bool) -> Training:
    """Pretrained layers are trained beside a random new one, at its high rate: what they knew is soon lost."""
    images, target = digits(1, 8, 8)
    body = _body().requires_grad_(requires_grad=is_sick)
    model = nn.Sequential(body, nn.Linear(64, 10))
    few, asked = images[1400:1480], target[1400:1480]

    def measure(_: Tensor, __: Tensor) -> float:
        return float((model(images[1480:]).argmax(1) == target[1480:]).float().mean())

    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], 0.2, momentum=0.9)
    return Training(model, epochs_of(few, asked, 10, 20), F.cross_entropy, optimizer, measure=measure)


class _Adapting(nn.Module):
    """Answers of weights that took two steps on the first points of a task: (N, 20, 2) to (N, 10)."""

    def __init__(self, *, copies: bool = False, sees_steps: bool = True) -> None:
        super().__init__()
        sizes = ((1, 24), (24, 24), (24, 1))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(*size) / size[0] ** 0.5) for size in sizes)
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(size[1])) for size in sizes)
        self.copies, self.sees_steps = copies, sees_steps

    @staticmethod
    def _answers(values: list[Tensor], places: Tensor) -> Tensor:
        """Of each task, with its own weights."""
        hidden = places[..., None]
        for one in range(3):
            hidden = hidden @ values[one] + values[3 + one]
            hidden = hidden.tanh() if one < 2 else hidden
        return hidden[..., 0]

    @torch.enable_grad()
    def forward(self, tasks: Tensor) -> Tensor:
        places, known = tasks[:, :, 0], tasks[:, :10, 1]
        values = [one.expand(len(tasks), *one.shape) for one in self.weights]
        values += [one.expand(len(tasks), 1, len(one)) for one in self.shifts]
        if self.copies:
            values = [one.detach().clone().requires_grad_() for one in values]
        for _ in range(2):
            loss = (self._answers(values, places[:, :10]) - known).square().mean(1).sum()
            slopes = torch.autograd.grad(loss, values, create_graph=self.sees_steps)
            if self.copies:
                for one, slope in zip(values, slopes, strict=True):
                    one.data -= 0.1 * slope
            else:
                values = [one - 0.1 * slope for one, slope in zip(values, slopes, strict=True)]
        return self._answers(values, places[:, 10:])


def _sines(count: int) -> tuple[Tensor, Tensor]:
    """(points_N202, values_N10): places and values of sines, and the values of the last ten."""
    generator = torch.Generator().manual_seed(0)
    places = 4 * torch.rand(count, 20, generator=generator) - 2
    phase, size = (torch.rand(count, 1, generator=generator) for _ in range(2))
    values = (0.5 + size) * (1.5 * places + 3 * phase).sin()
    return torch.stack([places, values], 2), values[:, 10:]


def _explained_of_all(output: Tensor, target: Tensor) -> float:
    return explained(output.reshape(-1, 1), target.reshape(-1, 1))


@third(
    "KanishJebaMathewM/Truxify#13118",
    right={"FL405", "FL406", "wiring", "refused"},
    words=("graph", "depend", "detach", ".data", "clone"),
    line="fast = [one - rate * slope for one, slope in zip(fast, slopes)] (and not one.data -= rate * slope of a copy)",
    counts="That the parameters get no gradient, or that the loss does not depend on them.",
)
def adapted_copy_is_cut_off(is_sick: bool) -> Training:
    """Steps within a task are taken in place, on a copy of the weights: those that are kept get no gradient."""
    points, asked = _sines(1600)
    model = _Adapting(copies=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(points, asked, 16, 5), F.mse_loss, optimizer, measure=_explained_of_all)


@third(
    "kjaved0/mrcl#15, uvm-neurobotics-lab/ANML#3",
    right={"wiring", "FL517"},
    words=("create_graph", "second order", "second-order", "graph", "detach"),
    line="torch.autograd.grad(loss, fast, create_graph=True) (without it the steps are constants)",
    counts="That gradients do not go through the steps within a task, which are cut off from the graph.",
)
def steps_within_a_task_are_constants(is_sick: bool) -> Training:
    """Slopes of the steps within a task are taken without their graph: how weights change them is left out."""
    points, asked = _sines(1600)
    model = _Adapting(sees_steps=not is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(points, asked, 16, 3), F.mse_loss, optimizer, measure=_explained_of_all)


@third(
    "facebookresearch/ParlAI#1812",
    right={"FL402", "FL407", "schedule"},
    words=("schedule", "warm", "learning rate", "lr="),
    line="the warm-up is over: its factor is 1 when a checkpoint is loaded (and not that of its first step again)",
    counts="That the rate is far too low from the restart on, or that the schedule is wrong.",
)
def rate_after_a_restart(is_sick: bool) -> Training:
    """A restart multiplies the rate by the factor of a warm-up's first step once more: by a ten-thousandth."""
    model = perceptron(64, 64, 10)

    def rate_at(step: int) -> float:
        return 0.2 * min(1.0, (step + 1) / 10) * (1e-4 if is_sick and step >= 30 else 1.0)

    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    loop = partial(at_rates, rate_at=rate_at)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer, loop)


def _of_workers(training: Training, monitor: Any, *, is_averaged: bool) -> None:
    """A loop in which eight workers get four rows of a batch each; what is kept are the weights of the first one."""
    for inputs, target in training.batches:
        rows = slice(None) if is_averaged else slice(4)
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs[rows]), target[rows])
        loss.backward()
        training.optimizer.step()
        monitor.step(loss)


@third(
    "deepmodeling/deepmd-kit#1104",
    right={"overfitting"},
    words=("average", "by heart", "memori", "overfit", "more rows", "part of the rows"),
    line="optimizer = horovod.DistributedOptimizer(optimizer) (whose compute_gradients averages them)",
    counts="That only a part of the rows is learnt from, which are learnt by heart.",
)
def gradients_of_one_worker(is_sick: bool) -> Training:
    """Gradients of eight workers are not averaged: each learns from its own eighth of the rows, and one is kept."""
    images, target = digits()
    parts = torch.arange(1792).reshape(8, 224)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(5):
        order = torch.stack([part[torch.randperm(224, generator=generator)] for part in parts])
        batches += [(images[rows.flatten()], target[rows.flatten()]) for rows in order.split(4, 1)]
    model = perceptron(64, 64, 10)

    def measure(_: Tensor, __: Tensor) -> float:
        return float((model(images).argmax(1) == target).float().mean())

    optimizer = torch.optim.SGD(model.parameters(), 0.03, momentum=0.9)
    loop = partial(_of_workers, is_averaged=not is_sick)
    return Training(model, batches, F.cross_entropy, optimizer, loop, measure=measure)
