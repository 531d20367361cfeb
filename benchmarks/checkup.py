"""Checkup: processor time of `fl.checkup` with default settings over that of one training epoch of the same network.

One thread. The batches are three epochs of a loader, as its documentation asks. An epoch is a plain loop over the same
batches with the same optimizer, the median of three. Sick networks cost more than healthy ones: both are here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import frostline as fl
from frostline.diagnosis.experiments.trial import Patient, train
from helpers_vision import import_torchvision

EPOCHS = 3
_EXAM = ("V1/digits/depth=5/2", "L4/digits/lr=0.0003/2", "E2/digits/gain=1.7/2", "X1/digits/input_scale=10.0/2",
         "relu_3_sgd/digits/2")  # fmt: skip

Make = Callable[[], Any]


@dataclass
class Training:
    """What a checkup is asked about: a network, three epochs of its batches, a loss and an optimizer."""

    model: nn.Module
    batches: list[tuple[Any, Tensor]]
    loss_fn: Callable[[Any, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    epochs: float = EPOCHS


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """For each network: seconds of an epoch, of the checkup, their ratio, and what was found."""
    import_torchvision()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    try:
        for name, make in (_networks() if is_quick else _networks() | _exam_networks()).items():
            torch.manual_seed(0)
            figures[name] = _measure(make())
            print(name, figures[name], flush=True)
    finally:
        torch.set_num_threads(threads)
    return figures


def _measure(one: Training) -> str:
    own = Patient(one.model, one.optimizer)
    per_epoch = one.batches[: max(1, round(len(one.batches) / one.epochs))]
    epochs = [_seconds(lambda: train(own.copy(), per_epoch, one.loss_fn, measures=False)) for _ in range(4)]
    epoch_s = median(epochs[1:])
    found: list[Any] = []
    given = (one.model, one.batches, one.loss_fn, one.optimizer)
    checkup_s = _seconds(lambda: found.append(fl.checkup(*given, progress=False)))
    said = ", ".join(dict.fromkeys(f"{f.code} {f.outcome}" for f in found[0].findings)) or "no finding"
    times = f"{checkup_s / epoch_s:.1f} epochs (checkup {checkup_s:.3g} s, epoch {epoch_s:.3g} s"
    return f"{times} of {len(per_epoch)} batches); {said}"


def _seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def _batches(inputs: Tensor, target: Tensor, size: int) -> list[tuple[Any, Tensor]]:
    order = [torch.randperm(len(inputs)) for _ in range(EPOCHS)]
    return [
        (inputs[rows], target[rows]) for one in order for rows in one.split(size) if len(rows) == size
    ]  # fmt: skip


def _digits(*shape: int) -> tuple[Tensor, Tensor]:
    found = load_digits()
    inputs = torch.tensor(found.data, dtype=torch.float32).div(16.0)
    return inputs.reshape(len(inputs), *shape) if shape else inputs, torch.tensor(found.target)


def _mlp(lr: float, scale: float = 1.0, activation: type[nn.Module] = nn.ReLU, depth: int = 3) -> Make:
    def make() -> Training:
        inputs, target = _digits()
        hidden = [part for _ in range(depth - 1) for part in (nn.Linear(64, 64), activation())]
        model = nn.Sequential(*hidden, nn.Linear(64, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        return Training(model, _batches(inputs * scale, target, 32), F.cross_entropy, optimizer)

    return make


def _cnn(lr: float) -> Make:
    def make() -> Training:
        inputs, target = _digits(1, 8, 8)
        parts = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1),
                 nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)]  # fmt: skip
        model = nn.Sequential(*parts)
        return Training(model, _batches(inputs, target, 32), F.cross_entropy, torch.optim.Adam(model.parameters(), lr))

    return make


def _resnet(lr: float) -> Make:
    def make() -> Training:
        import timm

        model = timm.create_model("resnet18", pretrained=False, num_classes=10)
        inputs, target = _digits(1, 8, 8)
        images = F.interpolate(inputs[:480], size=64).repeat(1, 3, 1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        return Training(model, _batches(images, target[:480], 16), F.cross_entropy, optimizer)

    return make


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(64, 64), nn.Parameter(0.02 * torch.randn(32, 64))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True) for _ in range(4)
        )
        self.head = nn.Linear(64, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embed(tokens) + self.place
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden.mean(1))


def _transformer(lr: float) -> Make:
    def make() -> Training:
        tokens = torch.randint(0, 64, (1280, 32))
        target = (tokens < 8).sum(1).clamp(2, 5) - 2  # how many small ones there are
        model = _Transformer()
        optimizer = torch.optim.AdamW(model.parameters(), lr)
        return Training(model, _batches(tokens, target, 32), F.cross_entropy, optimizer)

    return make


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.lstm(inputs)[0][:, -1])


def _lstm() -> Training:
    values = torch.rand(960, 100, 1)
    marks = torch.zeros(960, 100, 1).scatter_(1, torch.randint(0, 100, (960, 2, 1)), 1.0)
    model = _Recurrent()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, _batches(torch.cat([values, marks], 2), (values * marks).sum(1), 32), F.mse_loss, optimizer)


def _networks() -> dict[str, Make]:
    return {
        "MLP on digits": _mlp(0.05),
        "MLP on digits, learning rate 1e-5": _mlp(1e-5),
        "MLP on digits, 8 sigmoid layers": _mlp(0.05, activation=nn.Sigmoid, depth=9),
        "MLP on digits, inputs times 100": _mlp(0.05, scale=100.0),
        "CNN with BatchNorm on digits": _cnn(3e-3),
        "CNN with BatchNorm on digits, Adam at 1": _cnn(1.0),
        "resnet18 at 64 px": _resnet(0.05),
        "resnet18 at 64 px, learning rate 10": _resnet(10.0),
        "transformer of 4 layers on 32 tokens": _transformer(1e-3),
        "transformer of 4 layers on 32 tokens, AdamW at 0.3": _transformer(0.3),
        "LSTM over 100 steps": _lstm,
    }


def _exam_networks() -> dict[str, Make]:
    from exams.health.cases import all_cases

    known = {case.id: case for case in all_cases()}

    def make(name: str) -> Training:
        setup = known[name].build()
        epochs = len(setup.batches) * len(setup.batches[0][0]) / len(setup.data.train_x)
        return Training(setup.model, setup.batches, setup.loss_fn, setup.optimizer, max(1.0, epochs))

    return {f"exam, {name}": lambda name=name: make(name) for name in _EXAM if name in known}
