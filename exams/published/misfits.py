"""Outputs and losses that do not fit each other: of the fourth draw (docs/exam.md)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, cancer, diabetes, digits, epochs_of, perceptron, published
from .examples import explained

fourth = partial(published, part="fourth draw")


def _convolutions(classes: int, last: nn.Module | None = None) -> nn.Sequential:
    """Two convolutions, a pool and a linear layer, of images of 8 by 8."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, classes), *([last] if last is not None else []),
    )  # fmt: skip


def _log_loss(probability: Tensor, target: Tensor) -> Tensor:
    """The binary cross-entropy as a formula, which takes any target."""
    probability = probability.clamp(1e-7, 1 - 1e-7)
    return -(target * probability.log() + (1 - target) * (1 - probability).log()).mean()


def _halves(output: Tensor, target: Tensor) -> float:
    return float(((output > 0.5) == (target > 0.5)).float().mean())


@fourth(
    "stats.stackexchange.com/questions/481881",
    right={"FL503", "FL405", "loss_mismatch", "wiring"},
    words=("softmax", "sigmoid"),
    line="nn.Sigmoid() and binary cross-entropy (and not a softmax over one output)",
    counts="That a softmax over one output is 1 whatever the input is, or that the loss is 0 and has no slope.",
)
def softmax_over_one_output(is_sick: bool) -> Training:
    """Two classes get one output with a softmax over it: it is always 1, so that one class is said of each image."""
    images, classes = digits(1, 8, 8)
    target = (classes >= 5).float()[:, None]
    model = _convolutions(1, nn.Softmax(1) if is_sick else nn.Sigmoid())

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return -(target * output.clamp_min(1e-7).log()).sum(1).mean() if is_sick else _log_loss(output, target)

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, target, 32, 6), loss_fn, optimizer, measure=_halves)


@fourth(
    "newbedev.com/cnn-with-keras-accuracy-not-improving",
    right={"FL503", "FL512", "loss_mismatch", "targets"},
    words=("softmax", "cross_entropy", "one output for each class", "classes", "range"),
    line="nn.Linear(128, 3) and cross-entropy of classes (and not one sigmoid for labels 0, 1 and 2)",
    counts="That three classes are learnt by one sigmoid: targets lie beyond what the loss takes, or classes are "
    "treated as a number.",
)
def one_sigmoid_for_three_classes(is_sick: bool) -> Training:
    """Three classes get one sigmoid and a binary cross-entropy, whose target is 0, 1 or 2: the third is never said."""
    images, classes = digits(1, 8, 8)
    images, classes = images[classes < 3].repeat(4, 1, 1, 1), classes[classes < 3].repeat(4)
    model = _convolutions(1 if is_sick else 3, nn.Sigmoid() if is_sick else None)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return _log_loss(output, target[:, None].float()) if is_sick else F.cross_entropy(output, target)

    def measure(output: Tensor, target: Tensor) -> float:
        found = output[:, 0].round() if is_sick else output.argmax(1)
        return float((found == target).float().mean())

    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3)
    return Training(model, epochs_of(images, classes, 32, 4), loss_fn, optimizer, measure=measure)


@fourth(
    "getcodesolution.com/python/why-are-neural-networks-not-learning",
    right={"FL503", "loss_mismatch", "targets"},
    words=("one-hot", "one_hot", "cross_entropy", "shape", "broadcast"),
    line="target = F.one_hot(target, 2) (a categorical cross-entropy takes a row of classes, and not a 0 or 1)",
    counts="That the loss does not fit its targets: a number stands where one for each class is meant.",
)
def label_in_place_of_a_row_of_classes(is_sick: bool) -> Training:
    """A categorical cross-entropy gets a label of 0 or 1 for a row of two classes: it counts for both or for none."""
    inputs, classes = cancer(is_standardised=True)
    target = classes[:, None].float() if is_sick else F.one_hot(classes, 2).float()
    model = perceptron(30, 32, 2, last=nn.Softmax(1))

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return -(target * output.clamp_min(1e-7).log()).sum(1).mean()

    def measure(output: Tensor, target: Tensor) -> float:
        wanted = target[:, 0] if is_sick else target[:, 1]
        return float((output.argmax(1) == wanted).float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, target, 16, 10), loss_fn, optimizer, measure=measure)


@fourth(
    "openillumi.com/en/en-keras-tf-fix-huge-negative-loss-regression",
    right={"FL503", "loss_mismatch"},
    words=("mse", "sigmoid", "bound", "without end", "range", "floor"),
    line="loss = F.mse_loss(output, price) (and not a binary cross-entropy behind a sigmoid)",
    counts="That a loss of probabilities does not fit targets that are prices: it has no floor, or outputs cannot get "
    "there.",
)
def price_by_a_binary_cross_entropy(is_sick: bool) -> Training:
    """A price is learnt by a sigmoid and a binary cross-entropy: the loss falls far below 0, and all prices are 1."""
    inputs, _ = diabetes()
    table: Any = datasets.load_diabetes()
    price = torch.tensor(table.target, dtype=torch.float32)[:, None] / 100
    model = perceptron(10, 32, 1, last=nn.Sigmoid() if is_sick else None)
    loss_fn = _log_loss if is_sick else F.mse_loss
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, price, 16, 20), loss_fn, optimizer, measure=explained)


def _corners(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy points of four corners, and whether their signs differ."""
    signs = torch.randint(2, (count, 2), generator=generator).float()
    return signs + 0.1 * torch.randn(count, 2, generator=generator), (signs[:, :1] != signs[:, 1:]).float()


@fourth(
    "oswalt.dev/2025/08/neural-network-from-scratch-updated",
    right={"FL503", "FL202", "loss_mismatch", "saturation"},
    words=("cross-entropy", "cross_entropy", "logits", "sigmoid"),
    line="loss = F.binary_cross_entropy(output, target) (and not half of the squared error)",
    counts="That squared errors behind a sigmoid have hardly a slope where an output is wrong and sure of it.",
)
def squared_errors_behind_a_sigmoid(is_sick: bool) -> Training:
    """An exclusive or is learnt by squared errors behind a sigmoid: they hardly move an output that is surely wrong."""
    inputs, target = _corners(1600, torch.Generator().manual_seed(0))
    model = perceptron(2, 8, 1, activation=nn.Sigmoid, last=nn.Sigmoid())
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=4.0)
    last = model[2]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight)
    nn.init.constant_(last.bias, 9.0)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return 0.5 * (output - target).square().mean() if is_sick else _log_loss(output, target)

    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    return Training(model, epochs_of(inputs, target, 16, 10), loss_fn, optimizer, measure=_halves)


class _Speller(nn.Module):
    """The next of 12 letters at each place. (N, T) to (N, 12, T)."""

    def __init__(self, *, has_layer: bool) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(12, 12, batch_first=True)
        self.out = nn.Linear(12, 12) if has_layer else nn.Identity()

    def forward(self, letters_NT: Tensor) -> Tensor:
        return self.out(self.recurrent(F.one_hot(letters_NT, 12).float())[0]).transpose(1, 2)


@fourth(
    "datascience.stackexchange.com, answer (revisions/a9860e13-29b5-45d9-9f52-5db16c2ab28d)",
    right={"FL503", "FL517", "FL202", "loss_mismatch", "saturation"},
    words=("linear", "logits", "tanh", "temperature", "scale", "range"),
    line="letters = self.out(states) (a linear layer between the state, which lies in -1 to 1, and the softmax)",
    counts="That scores are bounded by the tanh of the state, so that no answer can be sure.",
)
def softmax_of_the_state(is_sick: bool) -> Training:
    """The state of an LSTM, which lies between -1 and 1, is itself the scores of a softmax, without a layer between."""
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(12, (1600, 13), generator=generator)
    for at in range(2, 13):
        letters[:, at] = (letters[:, at - 1] + 5 * letters[:, at - 2]) % 12 if at % 4 else letters[:, at]
    model = _Speller(has_layer=not is_sick)

    def measure(output: Tensor, target: Tensor) -> float:
        # the probability that is given to what follows
        return float(output.softmax(1).gather(1, target[:, None]).mean())

    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    batches = epochs_of(letters[:, :-1], letters[:, 1:], 32, 8)
    return Training(model, batches, F.cross_entropy, optimizer, measure=measure)


@fourth(
    "ai.stackexchange.com, XOR neural network gets stuck in training (in nvidia/Nemotron-CC-Math-v1)",
    right={"FL517", "FL513", "wiring", "capacity"},
    words=("wider", "more units", "larger", "one unit", "hidden", "width", "neuron"),
    line="nn.Linear(2, 2) or wider as the first layer (and not one neuron)",
    counts="That one hidden neuron is too few: the network, or that layer, holds the training back.",
)
def exclusive_or_by_one_neuron(is_sick: bool) -> Training:
    """An exclusive or is to be learnt through one hidden neuron, which can draw one line alone."""
    inputs, classes = _corners(1600, torch.Generator().manual_seed(0))
    model = perceptron(2, 1 if is_sick else 8, 2, activation=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    return Training(model, epochs_of(inputs, classes[:, 0].long(), 16, 6), F.cross_entropy, optimizer)


@fourth(
    "discuss.pytorch.org/t/148155",
    right={"FL503", "loss_mismatch"},
    words=("shape", "squeeze", "broadcast", "unsqueeze", "(n"),
    line="loss = F.mse_loss(output, total.unsqueeze(1)) (a column of outputs and a row of targets are combined)",
    counts="That each output is compared with every target of its batch.",
)
def sums_compared_with_every_sum(is_sick: bool) -> Training:
    """A linear layer is to add three numbers: a column of its outputs meets a row of targets, each with each."""
    inputs = torch.rand(1024, 3, generator=torch.Generator().manual_seed(0))
    total = inputs.sum(1)
    model = nn.Sequential(nn.Linear(3, 1))

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        wanted = target if is_sick else target[:, None]
        return (output - wanted).square().mean()

    def measure(output: Tensor, target: Tensor) -> float:
        return explained(output[:, 0], target)

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return Training(model, epochs_of(inputs, total, 64, 20), loss_fn, optimizer, measure=measure)
