"""Rows, images and labels that are not what was meant: of what a person's questions find (docs/exam.md)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published

second = partial(published, part="second draw")


def explained(output: Tensor, target: Tensor) -> float:
    """The share of the variance that is explained, from 0 to 1; 0 where an output is not finite."""
    if not torch.isfinite(output).all():
        return 0.0
    return max(0.0, float(1 - (output - target).square().mean() / (target - target.mean(0)).square().mean()))


@second(
    "stats.stackexchange.com (answerofmath.com/solved-neural-network-for-regression-actual-data-vs-predicted-data)",
    right={"FL503", "FL505"},
    words=("square", "min-max", "rescale", "range of the target", "of the targets"),
    line="wanted = (target + 0.454) / 1.454 (and not target ** 2)",
    counts="That the targets, or what the loss makes of them, are wrong: their sign is lost, rows that differ have the "
    "same target, the last function and the range of the target do not fit.",
)
def sign_is_squared_away(is_sick: bool) -> Training:
    """Targets from -0.45 to 1 are squared to get them between 0 and 1: low and high ones become the same."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1600, 3, generator=generator)
    target = 0.273 + 0.727 * (inputs @ torch.tensor([[1.0], [-0.7], [0.5]])).tanh()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output, target.square() if is_sick else (target + 0.454) / 1.454)

    def measure(output: Tensor, target: Tensor) -> float:
        return explained(output.sqrt() if is_sick else 1.454 * output - 0.454, target)

    model = perceptron(3, 8, 1, activation=nn.Sigmoid, last=nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(inputs, target, 32, 6), loss_fn, optimizer, measure=measure)


def hands(count: int) -> tuple[Tensor, Tensor]:
    """(cards_NC2, is_pair_N): three cards each, suit (0 to 3) and rank (0 to 12), and whether two ranks are alike."""
    generator = torch.Generator().manual_seed(0)
    cards = torch.stack([torch.randperm(52, generator=generator)[:3] for _ in range(count)])
    rank = cards % 13
    is_pair = (rank[:, :, None] == rank[:, None]).sum((1, 2)) > 3
    at = torch.cat([is_pair.nonzero()[:, 0], (~is_pair).nonzero()[: int(is_pair.sum()), 0]])
    at = at[torch.randperm(len(at), generator=generator)]
    return torch.stack([cards // 13, rank], 2)[at], is_pair[at].long()


@second(
    "google-research/google-research#191",
    right={"categories"},
    words=("one-hot", "one hot", "embedding", "categor"),
    line="cat_names = [every column] (and not cont_names)",
    counts="That columns of whole numbers are classes, and are given as quantities: one-hot, or an embedding.",
)
def suits_and_ranks_as_numbers(is_sick: bool) -> Training:
    """Suits and ranks of cards are given as numbers, not as classes: alike and near can hardly be told apart."""
    cards, target = hands(10_000)
    as_numbers = (cards.float() - torch.tensor([1.5, 6.0])) / torch.tensor([1.1, 3.7])
    as_classes = torch.cat([F.one_hot(cards[..., 0], 4), F.one_hot(cards[..., 1], 13)], 2).float()
    inputs = (as_numbers if is_sick else as_classes).flatten(1)
    model = perceptron(inputs.shape[1], 64, 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(inputs, target, 64, 12), F.cross_entropy, optimizer)


class _Reversed(torch.autograd.Function):
    """The gradient comes back with the other sign."""

    @staticmethod
    def forward(ctx: object, inputs: Tensor) -> Tensor:
        """The inputs."""
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """Minus the gradient."""
        return -gradient


def frame() -> Tensor:
    """(64,) 1 inside of an image of 8 by 8, 0 in its frame of one pixel."""
    inside = torch.zeros(8, 8)
    inside[1:-1, 1:-1] = 1.0
    return inside.flatten()


class Adversaries(nn.Module):
    """Scores (N, 2) of N real images and of as many made ones, which have no background in their frame."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = perceptron(8, 64, 64, last=nn.Sigmoid())
        self.critic = perceptron(64, 64, 1, activation=partial(nn.LeakyReLU, 0.2))

    def made(self, count: int) -> Tensor:
        """So many images."""
        return frame() * self.generator(torch.randn(count, 8))

    def forward(self, real: Tensor) -> Tensor:
        made = _Reversed.apply(self.made(len(real)))
        return torch.cat([self.critic(real), self.critic(made)], 1)


@second(
    "BadourAlBahar/pose-with-style#23",
    right={"FL510", "vanishing"},
    words=("background", "padding", "frame", "in the same way", "trivial", "leak", "tell apart", "critic is too"),
    line="real = mask * real (the background is taken out of real images, as it is out of made ones)",
    counts="That real and made images differ in something that the generator has no hold on, or that the critic wins "
    "at once: its task is trivial, its loss is near 0, and no gradient comes back to the generator.",
)
def real_images_keep_their_background(is_sick: bool) -> Training:
    """Real images have a background and made ones cannot have one: the critic need not look at anything else."""
    images, _ = digits()
    generator = torch.Generator().manual_seed(0)
    level = 0.5 + 0.5 * torch.rand(len(images), 1, generator=generator)
    images = frame() * images + ((1 - frame()) * level if is_sick else 0.0)
    model = Adversaries()

    def measure(_: Tensor, __: Tensor) -> float:
        inside = frame() > 0
        away = (model.made(500).mean(0) - images.mean(0))[inside].square().mean()
        return max(0.0, float(1 - away / (0.5 - images.mean(0))[inside].square().mean()))

    labels = torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.5, 0.999))
    batches = epochs_of(images, labels, 32, 12)
    return Training(model, batches, F.binary_cross_entropy_with_logits, optimizer, measure=measure)


@second(
    "makeyourownneuralnetwork/makeyourownneuralnetwork#18",
    right={"overfitting"},
    words=("more rows", "more data", "too few", "all rows", "by heart", "memori", "overfit"),
    line="training_data = every line of mnist_train.csv (and not of mnist_train_100.csv)",
    counts="That there are too few rows: they are learnt by heart, and other rows are not answered as well.",
)
def few_of_the_rows(is_sick: bool) -> Training:
    """A network is trained with a small piece of the data, which it soon knows by heart."""
    inputs, target = digits()
    model = perceptron(64, 64, 10, activation=nn.Sigmoid)

    def measure(_: Tensor, __: Tensor) -> float:
        return float((model(inputs).argmax(1) == target).float().mean())

    batches = epochs_of(inputs[:48], target[:48], 16, 112) if is_sick else epochs_of(inputs, target, 16, 3)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(model, batches, F.cross_entropy, optimizer, measure=measure)


@second(
    "deepmedic/deepmedic#66",
    right={"FL502"},
    words=("nan_to_num", "isnan", "isfinite", "input", "remove", "replace"),
    line="images = torch.nan_to_num(images)",
    counts="That some inputs are NaN.",
)
def two_images_hold_nan(is_sick: bool) -> Training:
    """Two of all images have a few pixels that are NaN: the first batch with one of them makes every weight NaN."""
    images, target = digits(1, 8, 8)
    images = images.clone()
    for at in (611, 1402):
        images[at, 0, 2:4, 3] = torch.nan if is_sick else 0.0
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, target, 32, 4), F.cross_entropy, optimizer)


@second(
    "stackoverflow.com/questions/52800582",
    right={"FL501", "FL505"},
    words=("standardi", "normalis", "scale", "divide"),
    line="inputs, target = inputs / 100, target / 1e8",
    counts="That the inputs, or the targets, are in too large a unit.",
)
def fourth_power_of_a_hundred(is_sick: bool) -> Training:
    """The fourth power of numbers up to 100 is learnt from numbers as they are: no weights are large enough."""
    generator = torch.Generator().manual_seed(0)
    inputs = 200 * torch.rand(1600, 1, generator=generator) - 100
    target = inputs**4
    model = nn.Sequential(nn.Linear(1, 50), nn.Sigmoid(), nn.Linear(50, 50), nn.ELU(), nn.Linear(50, 1))
    inputs, target = (inputs, target) if is_sick else (inputs / 100, target / 1e8)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, target, 32, 12), F.mse_loss, optimizer)


def squares(count: int) -> tuple[Tensor, Tensor]:
    """(images_N1SS, corners_N4): a bright square in an image of 12 by 12, and its first and last row and column."""
    generator = torch.Generator().manual_seed(0)
    size = torch.randint(3, 6, (count,), generator=generator)
    first = (torch.rand(count, 2, generator=generator) * (13 - size)[:, None]).floor().long()
    last = first + size[:, None] - 1
    at = torch.arange(12)
    is_inside = (at >= first[..., None]) & (at <= last[..., None])
    images = (is_inside[:, 0, :, None] & is_inside[:, 1, None, :]).float()
    return (images + 0.1 * torch.randn(count, 12, 12, generator=generator))[:, None], torch.cat(
        [first, last], 1
    ).float()


@second(
    "dusty-nv/jetson-inference#1010",
    right={"FL502", "targets"},
    words=("targets", "log(", "log1p", "clamp", "negative"),
    line="boxes = annotation (which counts from 0; the reader subtracted 1, as of files that count from 1)",
    counts="That targets are not finite, or boxes are outside of their image, before the network has done anything.",
)
def boxes_begin_at_minus_one(is_sick: bool) -> Training:
    """A reader takes 1 off coordinates that count from 0: boxes at the edge begin at -1, which has no logarithm."""
    images, corners = squares(1200)
    target = (corners - 1 if is_sick else corners).log1p()
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 64), nn.ReLU(),
        nn.Linear(64, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return Training(model, epochs_of(images, target, 32, 5), F.smooth_l1_loss, optimizer, measure=explained)


def spoken(count: int) -> tuple[Tensor, Tensor]:
    """(frames_NTD, letters_NL): three letters of a to f, each of three noisy frames; their codes."""
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(6, (count, 3), generator=generator)
    frames = F.one_hot(letters.repeat_interleave(3, 1), 6).float()
    pause = torch.zeros(count, 1, 6)
    frames = torch.cat([part for k in range(3) for part in (frames[:, 3 * k : 3 * k + 3], pause)], 1)
    return frames + 0.3 * torch.randn(frames.shape, generator=generator), letters + ord("a")


class _Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.out = nn.GRU(6, 32, batch_first=True, bidirectional=True), nn.Linear(64, 7)

    def forward(self, frames_NTD: Tensor) -> Tensor:
        return self.out(self.recurrent(frames_NTD)[0])


def heard(output_NTV: Tensor, codes_NL: Tensor) -> float:
    """The share of rows whose best path, without repeats and blanks, is their letters."""
    paths = [torch.unique_consecutive(row).tolist() for row in output_NTV.argmax(2)]
    found = [[ord("a") + symbol - 1 for symbol in path if symbol] for path in paths]
    return sum(one == codes for one, codes in zip(found, codes_NL.tolist(), strict=True)) / len(found)


@second(
    "SeanNaren/warp-ctc#111",
    right={"FL503", "FL508", "targets"},
    words=("target", "label", "empty", "alphabet"),
    line='labels = "_abcdef" (in the case of the transcripts, and not "_ABCDEF")',
    counts="That the targets are wrong or empty: the loss is the same whatever the letters are, or asks for blanks.",
)
def alphabet_in_capitals(is_sick: bool) -> Training:
    """The alphabet has capitals and the transcripts do not: letters that are not in it are left out, which are all."""
    first = ord("A" if is_sick else "a")
    model = _Listener()

    def loss_fn(output_NTV: Tensor, codes_NL: Tensor) -> Tensor:
        symbols = codes_NL - first + 1
        is_known = (symbols >= 1) & (symbols <= 6)
        frames = torch.full((len(output_NTV),), output_NTV.shape[1])
        scores = output_NTV.log_softmax(2).transpose(0, 1)
        return F.ctc_loss(scores, symbols * is_known, frames, is_known.sum(1))

    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(model, epochs_of(*spoken(1200), 32, 6), loss_fn, optimizer, measure=heard)
