"""Healthy networks of all kinds, small, each learning its task: none may get an issue.

Legend: N samples, T places, D features, V symbols, G nodes of a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import pairs, targets
from .case import Training, digits, epochs_of, perceptron
from .images import UNet, shapes
from .sequences import several_labels


@dataclass(frozen=True)
class Healthy:
    """One network.

    Attributes:
        name: Short and unique.
        least: The score that its plain training reaches on rows that were kept away, from 0 to 1.
        build: callable() -> training.
    """

    name: str
    least: float
    build: Callable[[], Training]


WELL: dict[str, Healthy] = {}


def healthy(least: float) -> Callable[[Callable[[], Training]], Callable[[], Training]]:
    """Enter a network under the name of the function that builds it."""

    def enter(build: Callable[[], Training]) -> Callable[[], Training]:
        WELL[build.__name__] = Healthy(build.__name__, least, build)
        return build

    return enter


def adam(model: nn.Module, rate: float = 3e-3) -> torch.optim.Adam:
    """Adam over all parameters."""
    return torch.optim.Adam(model.parameters(), rate)


def fit(output: Tensor, target: Tensor) -> float:
    """Explained variance."""
    return max(0.0, float(1 - (output - target).square().mean() / target.var(correction=0)))


def follows(output: Tensor, target: Tensor) -> float:
    """Correlation, or 0."""
    found = torch.corrcoef(torch.stack([output.flatten(), target.flatten().float()]))[0, 1]
    return max(0.0, float(found)) if torch.isfinite(found) else 0.0


def _relevance(count: int = 1600) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 8, generator=generator)
    return inputs, inputs[:, :1] * inputs[:, 1:2].tanh() + inputs[:, 2:3]


@healthy(0.5)
def variational_autoencoder() -> Training:
    """Error and divergence, both summed over their values."""
    inputs, _ = digits()
    model = pairs._Autoencoder()
    loss_fn = partial(pairs._bound, sign=1.0, clamp=30.0)

    def measure(output: Tensor, target: Tensor) -> float:
        return fit(output.sigmoid(), target)

    return Training(model, epochs_of(inputs, inputs, 32, 6), loss_fn, adam(model), measure=measure)


class _Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(8, 64, 64, activation=nn.LeakyReLU, last=nn.Sigmoid())

    def forward(self, noise: Tensor) -> Tensor:
        return self.body(noise)


def _adversaries(training: Training, monitor: Any, *, critic: nn.Module) -> None:
    own = torch.optim.Adam(critic.parameters(), 5e-4, betas=(0.5, 0.999))
    for noise, real in training.batches:
        own.zero_grad()
        made = training.model(noise)
        of_real, of_made = critic(real), critic(made.detach())
        ones = torch.ones_like(of_real)
        (F.binary_cross_entropy_with_logits(of_real, ones)
         + F.binary_cross_entropy_with_logits(of_made, 0 * ones)).backward()  # fmt: skip
        own.step()
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(noise), real)
        loss.backward()
        training.optimizer.step()
        monitor.step(loss)


def _is_like(output: Tensor, target: Tensor) -> float:
    return follows(output.mean(0), target.mean(0))


@healthy(0.0)
def generator_of_a_gan() -> Training:
    """A generator against a critic, which its checkup keeps as it is and its loop trains."""
    inputs, _ = digits()
    noise = torch.randn(len(inputs), 8, generator=torch.Generator().manual_seed(0))
    model, critic = _Generator(), perceptron(64, 32, 1, activation=nn.LeakyReLU)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        score = critic(output)
        return F.binary_cross_entropy_with_logits(score, torch.ones_like(score))

    loop = partial(_adversaries, critic=critic)
    optimizer = torch.optim.Adam(model.parameters(), 5e-4, (0.5, 0.999))
    return Training(model, epochs_of(noise, inputs, 32, 4), loss_fn, optimizer, loop, _is_like)


@healthy(0.3)
def diffusion_denoiser() -> Training:
    """The noise of an image is predicted from the noisy image and the level of noise."""
    inputs, _ = digits()
    generator, batches = torch.Generator().manual_seed(0), []
    for _ in range(8):
        noise, level = torch.randn(inputs.shape, generator=generator), torch.rand(len(inputs), 1, generator=generator)
        noisy = (1 - level).sqrt() * (2 * inputs - 1) + level.sqrt() * noise
        batches += epochs_of(torch.cat([noisy, level], 1), noise, 32, 1)
    model = perceptron(65, 128, 128, 64, activation=nn.SiLU)
    return Training(model, batches, F.mse_loss, adam(model, 2e-3), measure=fit)


class _Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(64, 64, 16)

    def forward(self, views: Tensor) -> Tensor:
        return F.normalize(self.body(views), dim=-1)


def _contrast(output: Tensor, _: Tensor) -> Tensor:
    both = output.flatten(0, 1)
    likeness = (both @ both.T / 0.2).fill_diagonal_(-1e9)
    return F.cross_entropy(likeness, torch.arange(len(both)) ^ 1)


def _is_pair_nearest(output: Tensor, _: Tensor) -> float:
    both = output.flatten(0, 1)
    likeness = (both @ both.T).fill_diagonal_(-2.0)
    return float((likeness.argmax(1) == torch.arange(len(both)) ^ 1).float().mean())


@healthy(0.2)
def contrast_of_two_views() -> Training:
    """SimCLR: of two noisy views of an image, each finds the other."""
    inputs, target = digits()
    generator, batches = torch.Generator().manual_seed(0), []
    for _ in range(6):
        views = inputs[:, None] + 0.15 * torch.randn(len(inputs), 2, 64, generator=generator)
        batches += epochs_of(views, target, 64, 1)
    model = _Views()
    return Training(model, batches, _contrast, adam(model, 2e-3), measure=_is_pair_nearest)


def _all_triplets(output: Tensor, target: Tensor) -> Tensor:
    distance = 1 - F.normalize(output, dim=1) @ F.normalize(output, dim=1).T
    is_same = target[:, None] == target
    room = (distance[:, :, None] - distance[:, None, :] + 0.3).relu()
    counts = is_same[:, :, None] & ~is_same[:, None, :]
    return (room * counts).sum() / counts.sum().clamp_min(1)


@healthy(0.8)
def triplets() -> Training:
    """A triplet loss over all triplets of a batch."""
    model = perceptron(64, 64, 16)
    return Training(model, epochs_of(*digits(), 32, 6), _all_triplets, adam(model, 1e-3), measure=pairs.nearest_alike)


def _best(output: Tensor, target: Tensor) -> float:
    return float((output.argmax(1) == target[:, 2].long()).float().mean())


@healthy(0.7)
def policy_gradient() -> Training:
    """Rewards of actions drawn at random, less a baseline and weighted by their chance: good ones become likely."""
    inputs, classes = digits()
    classes = classes % 4
    action = torch.randint(4, (len(inputs),), generator=torch.Generator().manual_seed(0))
    reward = (action == classes).float()
    model = perceptron(64, 64, 4)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        chosen = output.softmax(1).gather(1, target[:, :1].long())[:, 0]
        return -(chosen / 0.25 * (target[:, 1] - 0.25)).mean()

    batches = epochs_of(inputs, torch.stack([action.float(), reward, classes.float()], 1), 32, 6)
    return Training(model, batches, loss_fn, adam(model, 1e-3), measure=_best)


@healthy(0.6)
def deep_q_network() -> Training:
    """Values of two actions on a line of 10 places, with a frozen target network."""
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(10, (2000,), generator=generator)
    action = torch.randint(2, (2000,), generator=generator)
    after = (place + 2 * action - 1).clamp(0, 9)
    reward = (after == 9).float()
    model, frozen = perceptron(10, 32, 2), perceptron(10, 32, 2)
    frozen.load_state_dict(model.state_dict())

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = target[:, 1] + 0.9 * frozen(F.one_hot(target[:, 2].long(), 10).float()).amax(1)
        return F.smooth_l1_loss(output.gather(1, target[:, :1].long())[:, 0], wanted)

    def measure(output: Tensor, target: Tensor) -> float:
        return follows(output.gather(1, target[:, :1].long())[:, 0], target[:, 1])

    rows = torch.stack([action.float(), reward, after.float()], 1)
    noisy = F.one_hot(place, 10).float() + 0.01 * torch.randn(2000, 10, generator=generator)
    return Training(model, epochs_of(noisy, rows, 32, 5), loss_fn, adam(model), measure=measure)


@healthy(0.9)
def u_net() -> Training:
    """Masks of noisy squares."""
    model = UNet()
    return Training(model, epochs_of(*shapes(800), 32, 4), F.binary_cross_entropy_with_logits, adam(model))


@healthy(0.5)
def alignment_by_ctc() -> Training:
    """Symbols without their places."""
    model = targets.Recogniser()
    return Training(
        model, epochs_of(*targets._spoken(1200), 32, 6), targets.aligned, adam(model, 5e-3), measure=targets._read_right
    )


@healthy(0.8)
def multi_label() -> Training:
    """Six labels of which several are true."""
    model = perceptron(20, 64, 6)
    return Training(model, epochs_of(*several_labels(1600), 32, 6), F.binary_cross_entropy_with_logits, adam(model))


@healthy(0.8)
def siamese() -> Training:
    """Distances of pairs of one class and of two."""
    model = targets.Siamese()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return (target * output.square() + (1 - target) * (1 - output).relu().square()).mean()

    return Training(
        model, epochs_of(*targets.pairs_of_digits(2000), 32, 6), loss_fn, adam(model, 1e-3), measure=targets._is_near
    )


@healthy(0.4)
def poisson_regression() -> Training:
    """Counts; the model gives the logarithm of their rate."""
    model = perceptron(8, 32, 1)
    return Training(
        model, epochs_of(*targets.counted(1600), 32, 6), F.poisson_nll_loss, adam(model), measure=targets._follows_log
    )


@healthy(0.6)
def quantile_regression() -> Training:
    """Three quantiles of a noisy quantity."""
    inputs, target = _relevance()
    target = target + 0.3 * torch.randn(len(inputs), 1, generator=torch.Generator().manual_seed(1))
    model, shares = perceptron(8, 64, 3), torch.tensor([0.1, 0.5, 0.9])

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        error = target - output
        return torch.maximum(shares * error, (shares - 1) * error).mean()

    return Training(
        model, epochs_of(inputs, target, 32, 6), loss_fn, adam(model),
        measure=lambda output, target: fit(output[:, 1:2], target),
    )  # fmt: skip


@healthy(0.4)
def survival() -> Training:
    """Cox's partial likelihood of censored times."""
    inputs, risk = _relevance()
    generator = torch.Generator().manual_seed(1)
    time = torch.empty(len(inputs), 1).exponential_(generator=generator) * (-risk).exp()
    end = 2 * torch.rand(len(inputs), 1, generator=generator)
    model = perceptron(8, 64, 1)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        order = target[:, 0].argsort(descending=True)
        score, event = output[order, 0], target[order, 1]
        return -((score - score.logcumsumexp(0)) * event).sum() / event.sum().clamp_min(1)

    def measure(output: Tensor, target: Tensor) -> float:
        return follows(output, -(target[:, :1] + 1e-3).log())

    batches = epochs_of(inputs, torch.cat([torch.minimum(time, end), (time < end).float()], 1), 32, 6)
    return Training(model, batches, loss_fn, adam(model), measure=measure)


@healthy(0.8)
def ordinal() -> Training:
    """Ordered classes, by the chance to be above each threshold."""
    inputs, risk = _relevance()
    grade = (risk > torch.tensor([-1.0, 0.0, 1.0])).float()
    model = perceptron(8, 64, 3)
    return Training(model, epochs_of(inputs, grade, 32, 6), F.binary_cross_entropy_with_logits, adam(model))


@healthy(0.6)
def ranking() -> Training:
    """Of 6 documents of a query the order is learnt, by the softmax of their relevance."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1200, 6, 8, generator=generator)
    relevance = inputs[..., 0] * inputs[..., 1].tanh() + inputs[..., 2]
    model = nn.Sequential(perceptron(8, 32, 1), nn.Flatten(1))

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return -(target.softmax(1) * output.log_softmax(1)).sum(1).mean()

    return Training(model, epochs_of(inputs, relevance, 32, 6), loss_fn, adam(model), measure=follows)


@healthy(0.8)
def distillation() -> Training:
    """Soft labels of a teacher."""
    inputs, target = digits()
    teacher = 0.7 * F.one_hot(target, 10).float() + 0.03
    model = perceptron(64, 64, 10)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.kl_div((output / 2).log_softmax(1), target, reduction="batchmean") * 4

    return Training(model, epochs_of(inputs, teacher, 32, 6), loss_fn, adam(model), measure=targets._of_most)


@healthy(0.8)
def two_tasks() -> Training:
    """A class and a standardised quantity, by one loss."""
    inputs, target = digits()
    quantity = inputs.mean(1)
    quantity = (quantity - quantity.mean()) / quantity.std()
    model = perceptron(64, 64, 11)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output[:, :10], target[:, 0].long()) + F.mse_loss(output[:, 10], target[:, 1])

    batches = epochs_of(inputs, torch.stack([target.float(), quantity], 1), 32, 6)
    return Training(model, batches, loss_fn, adam(model), measure=targets._right_class)


def _known(output: Tensor, target: Tensor) -> float:
    is_known = target >= 0
    return float((output[is_known].argmax(1) == target[is_known]).float().mean())


@healthy(0.7)
def self_training() -> Training:
    """A third of the labels is known; the others are the model's own, where it is sure of them."""
    inputs, target = digits()
    is_known = torch.rand(len(target), generator=torch.Generator().manual_seed(0)) < 0.35
    target = target.where(is_known, -1)
    model = perceptron(64, 64, 10)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        chance, guess = output.detach().softmax(1).max(1)
        is_sure = (target < 0) & (chance > 0.95)
        wanted = torch.where(is_sure, guess, target)
        return F.cross_entropy(output, wanted, ignore_index=-1)

    return Training(model, epochs_of(inputs, target, 32, 6), loss_fn, adam(model), measure=_known)
