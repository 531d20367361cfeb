"""Outputs and losses that do not ask for what was meant: of what a person's questions find (docs/exam.md)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published
from .images import UNet, shapes
from .pairs import nearest_alike
from .targets import pairs_of_digits

second = partial(published, part="second draw")


class _Views(nn.Module):
    """Several pictures of one thing: the largest features of all of them are classified. (N, V, 8, 8)."""

    def __init__(self, *, is_cut: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head, self.is_cut = perceptron(108, 64, 10), is_cut

    def forward(self, views_NVHW: Tensor) -> Tensor:
        features = self.body(views_NVHW.flatten(0, 1)[:, None]).unflatten(0, views_NVHW.shape[:2])
        scores = self.head(features.amax(1))
        return scores.relu() if self.is_cut else scores


@second(
    "WeiTang114/MVCNN-TensorFlow#14",
    right={"FL201", "FL503"},
    words=("last", "relu", "rectifier", "logits"),
    line="return self.head(features.amax(1)) (without the relu after fc8)",
    counts="That the last function, a rectifier, cuts the scores that the loss takes, or that the last units are dead.",
)
def rectifier_behind_the_scores(is_sick: bool) -> Training:
    """A rectifier stands behind the scores of the classes: those of a class that is once below 0 never come back."""
    images, target = digits(8, 8)
    views = torch.stack([images, images.roll(1, 1), images.roll(1, 2)], 1)
    model = _Views(is_cut=is_sick)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return Training(model, epochs_of(views, target, 32, 4), F.cross_entropy, optimizer)


class _Apart(nn.Module):
    """How far two rows of 64 values are apart, given as (N, 2, 64)."""

    def __init__(self, *, is_bounded: bool) -> None:
        super().__init__()
        self.body, self.is_bounded = perceptron(64, 64, 16), is_bounded

    def forward(self, rows: Tensor) -> Tensor:
        codes = self.body(rows)
        distance = (codes[:, 0] - codes[:, 1]).square().sum(1).clamp_min(1e-8).sqrt()
        return distance.sigmoid() if self.is_bounded else distance


@second(
    "keras-team/keras-io#2261",
    right={"FL503"},
    words=("sigmoid", "last function", "margin", "range"),
    line="return distance (without the last sigmoid)",
    counts="That the last function does not fit the loss: outputs are bounded, and cannot be what it asks for.",
)
def sigmoid_of_a_distance(is_sick: bool) -> Training:
    """A contrastive loss gets the sigmoid of a distance: like pairs stay above 0.5, others below the margin."""
    rows, target = pairs_of_digits(1600)
    model = _Apart(is_bounded=is_sick)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        is_like = target.flatten()
        return (is_like * output.square() + (1 - is_like) * (1 - output).relu().square()).mean()

    def measure(output: Tensor, target: Tensor) -> float:
        return float(((output < 0.5) == (target.flatten() > 0.5)).float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, epochs_of(rows, target, 32, 6), loss_fn, optimizer, measure=measure)


@second(
    "stackoverflow.com/questions/1565115",
    right={"FL503"},
    words=("sigmoid", "last function", "linear", "range"),
    line="outputs = layer(hidden) (a linear output, without the sigmoid)",
    counts="That the last function, a sigmoid, cannot give the targets that are below 0.",
)
def sine_from_a_sigmoid(is_sick: bool) -> Training:
    """A sine, from -1 to 1, is learnt with a sigmoid as the last function, which stays above 0."""
    generator = torch.Generator().manual_seed(0)
    inputs = 6.28 * torch.rand(1600, 1, generator=generator)
    model = perceptron(1, 10, 1, activation=nn.Sigmoid, last=nn.Sigmoid() if is_sick else None)
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    return Training(model, epochs_of(inputs, inputs.sin(), 32, 8), F.mse_loss, optimizer)


class _Column(nn.Module):
    """A perceptron whose last axis is dropped, or is not: (N,) or (N, 1)."""

    def __init__(self, *, is_flat: bool) -> None:
        super().__init__()
        self.body, self.is_flat = perceptron(25, 50, 10, 1), is_flat

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)[:, 0] if self.is_flat else self.body(inputs)


@second(
    "keras-team/keras#5441",
    right={"FL503"},
    words=("shape", "broadcast", "reshape", "squeeze", "view_as"),
    line="loss = (output.reshape(target.shape) - target).square().mean()",
    counts="That the shapes of output and target differ, and all are compared with all.",
)
def errors_of_all_with_all(is_sick: bool) -> Training:
    """Squared errors written by hand, of outputs (N,) and targets (N, 1), are N by N: the mean is the best answer."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1600, 25, generator=generator)
    target = 10 + 3 * (inputs[:, :1] * inputs[:, 1:2]).tanh() + inputs[:, 2:5].sum(1, keepdim=True)
    model = _Column(is_flat=is_sick)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().mean()

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(inputs, target, 32, 10), loss_fn, optimizer)


def overlap(output: Tensor, mask: Tensor) -> float:
    """Twice the share of pixels that both have, of all pictures together."""
    found = output > 0
    return float(2 * (found & (mask > 0)).sum() / (found.sum() + (mask > 0).sum()).clamp_min(1))


@second(
    "discuss.pytorch.org/t/71359",
    right={"FL503", "FL509", "imbalance"},
    words=(
        "without",
        "empty",
        "background",
        "foreground",
        "over the batch",
        "cross-entropy",
        "cross entropy",
        "smooth",
    ),
    line="images, masks = images[has_foreground], masks[has_foreground]",
    counts="That most images have nothing in their mask, so that background alone is the best answer to the loss: one "
    "class is far more common, the loss counts these images most, or its smallest value is reached without the rest.",
)
def overlap_of_images_without_any(is_sick: bool) -> Training:
    """A Dice loss of each image, of which most have no foreground: one pixel too many costs all, so none is found."""
    images, masks = shapes(800)
    is_kept = torch.arange(800) % 10 == 0
    noise = 0.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    images, masks = torch.where(is_kept[:, None, None, None], images, noise), masks * is_kept[:, None, None, None]
    rows = torch.ones(800, dtype=torch.bool) if is_sick else is_kept
    model = UNet()

    def loss_fn(output: Tensor, mask: Tensor) -> Tensor:
        found = output.sigmoid()
        shared = (found * mask).sum((1, 2, 3))
        return (1 - (2 * shared + 1) / (found.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)).mean()

    batches = epochs_of(images[rows], masks[rows], 16, 2 if is_sick else 20)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, batches, loss_fn, optimizer, measure=overlap)


@second(
    "foreai.co/blog/nans-out-of-nowhere-the-trick-that-saved-my-training-run",
    right={"FL502"},
    words=("logsumexp", "log_softmax", "logsigmoid", "log(", "log1p", "eps", "clamp"),
    line="penalty = logits.logsumexp(1) - others.logsumexp(1) (and not -log(1 - softmax))",
    counts="That the loss is not finite, since a logarithm is taken of what rounds to 0.",
)
def logarithm_of_what_is_left(is_sick: bool) -> Training:
    """A penalty for a word is the logarithm of 1 minus its probability, which rounds to 0 where the word is certain."""
    images, target = digits()
    wanted = torch.where(target < 5, target, 10)
    model = perceptron(64, 64, 11)
    with torch.no_grad():
        model[2].bias[10] = 20.0  # pretrained, it stops almost always

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        goes_on = target != 10
        naive, stable = (1 - output.softmax(1)[:, 10]).log(), output[:, :10].logsumexp(1) - output.logsumexp(1)
        left = naive if is_sick else stable
        return F.cross_entropy(output, target) - 0.5 * (left * goes_on).mean()

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(images, wanted, 32, 6), loss_fn, optimizer)


def walks(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(states_N2D, of_steps_N2, value_D): a state of 10 and the one after it; reward, and whether it goes on."""
    generator = torch.Generator().manual_seed(0)
    state = torch.randint(10, (count,), generator=generator)
    falls = torch.rand(count, generator=generator) < 0.4
    after = torch.where(falls, 0, state + 1)
    reward, goes_on = (after == 10).float(), (after < 10).float()
    chance = torch.zeros(10, 10)
    chance[:, 0] = 0.4
    chance[torch.arange(9), torch.arange(1, 10)] += 0.6
    gained = torch.zeros(10)
    gained[9] = 0.6
    value = torch.linalg.solve(torch.eye(10) - 0.9 * chance, gained)
    states = F.one_hot(torch.stack([state, after.clamp_max(9)], 1), 10).float()
    return states, torch.stack([reward, goes_on], 1), value


class _Critic(nn.Module):
    """The values of a state and of the one after it: (N, 2, D) to (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(10, 32, 1)

    def forward(self, states_N2D: Tensor) -> Tensor:
        return self.body(states_N2D)[..., 0]


@second(
    "bbioon.com/?p=895",
    right={"loss_mismatch", "wiring"},
    words=("detach", "no_grad", "target network", "moving"),
    line="wanted = (reward + 0.9 * value_after).detach()",
    counts="That what the loss takes for its target is an output of the network and gets a gradient.",
)
def value_runs_after_itself(is_sick: bool) -> Training:
    """The value of the next state, which is the target of this one's, is not detached: both are moved at once."""
    states, of_steps, value = walks(4800)
    model = _Critic()

    def loss_fn(output: Tensor, of_steps: Tensor) -> Tensor:
        after = output[:, 1] if is_sick else output[:, 1].detach()
        return (output[:, 0] - of_steps[:, 0] - 0.9 * of_steps[:, 1] * after).square().mean()

    def measure(_: Tensor, __: Tensor) -> float:
        away = (model.body(torch.eye(10))[:, 0] - value).square().mean()
        return max(0.0, float(1 - away / (value - value.mean()).square().mean()))

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(states, of_steps, 32, 6), loss_fn, optimizer, measure=measure)


@second(
    "omoindrot/tensorflow-triplet-loss#51",
    right={"FL503", "loss_mismatch"},
    words=("shape", "broadcast", "squeeze", "flatten", "(n,)"),
    line="labels = labels.flatten()",
    counts="That the shape of the labels is wrong, and they are broadcast.",
)
def labels_as_a_column(is_sick: bool) -> Training:
    """The labels of a triplet loss are a column: the mask of like rows is broadcast, and others are compared."""
    images, target = digits()
    model = perceptron(64, 64, 16)

    def loss_fn(output: Tensor, labels: Tensor) -> Tensor:
        features = F.normalize(output, dim=1)
        distance = 1 - features @ features.T
        is_like = (labels[None] == labels[:, None]).float()
        furthest, nearest = (distance * is_like).amax(1), (distance + 2 * is_like).amin(1)
        return (furthest - nearest + 0.5).relu().mean()

    def measure(output: Tensor, target: Tensor) -> float:
        return nearest_alike(output, target.flatten())

    labels = target[:, None] if is_sick else target
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, epochs_of(images, labels, 32, 5), loss_fn, optimizer, measure=measure)


@second(
    "deeppavlov/AutoIntent#324",
    right={"FL509", "imbalance"},
    words=("pos_weight", "weight", "focal", "rare"),
    line="loss = F.binary_cross_entropy_with_logits(output, target, pos_weight=torch.tensor(12.0))",
    counts="That labels are rare, and the loss is content with none: every row gets the share of each label.",
)
def labels_that_are_rare(is_sick: bool) -> Training:
    """Each of 28 labels is true in one of 25 rows: a loss without a weight for these is content with none."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1600, 32, generator=generator)
    score = inputs @ torch.randn(32, 28, generator=generator)
    target = (score > score.quantile(0.96, 0)).float()
    model = perceptron(32, 64, 28)
    weight = torch.tensor(1.0 if is_sick else 12.0)

    def measure(output: Tensor, target: Tensor) -> float:
        return overlap(output, target)

    loss_fn = partial(F.binary_cross_entropy_with_logits, pos_weight=weight)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, epochs_of(inputs, target, 32, 12), loss_fn, optimizer, measure=measure)


class _Translator(nn.Module):
    """A word for each place, of its word and all others."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(13, 32), nn.Parameter(0.1 * torch.randn(24, 32))
        one = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder, self.out = nn.TransformerEncoder(one, 2, enable_nested_tensor=False), nn.Linear(32, 13)

    def forward(self, words_NT: Tensor) -> Tensor:
        return self.out(self.encoder(self.embedding(words_NT) + self.place)).transpose(1, 2)


@second(
    "stackoverflow.com/a/66526823 (example-a.com/answer/66526823)",
    right={"FL509"},
    words=("ignore_index", "padding", "mask"),
    line="loss = F.cross_entropy(output, target, ignore_index=0)",
    counts="That the loss counts padding, or one class that is far more common than all others.",
)
def translation_counts_blanks(is_sick: bool) -> Training:
    """Sentences are filled up with blanks, which the loss counts as words: the next word is always a blank."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1, 13, (960, 24), generator=generator)
    length = torch.randint(2, 5, (960, 1), generator=generator)
    is_there = torch.arange(24) < length
    wanted = 1 + (5 * words + words.roll(1, 1) * (torch.arange(24) > 0)) % 12
    words, wanted = words * is_there, wanted * is_there
    model = _Translator()
    loss_fn = partial(F.cross_entropy, ignore_index=-100 if is_sick else 0)

    def measure(output: Tensor, target: Tensor) -> float:
        return float((output.argmax(1) == target)[target > 0].float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return Training(model, epochs_of(words, wanted, 32, 6), loss_fn, optimizer, measure=measure)
