"""Losses of pairs, triplets and generators: contrast, autoencoders, adversaries."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published

new = partial(published, is_drawn=True)


def _supervised_contrast(output: Tensor, target: Tensor, *, is_guarded: bool) -> Tensor:
    """Of each row, its likeness to the rows of its class against that to all others."""
    features = F.normalize(output, dim=1)
    likeness = features @ features.T / 0.1
    itself = torch.eye(len(output), dtype=torch.bool)
    is_pair = (target[:, None] == target) & ~itself
    chance = likeness.masked_fill(itself, -torch.inf).log_softmax(1).masked_fill(itself, 0.0)
    count = is_pair.sum(1)
    return -((chance * is_pair).sum(1) / (count.clamp_min(1) if is_guarded else count)).mean()


def nearest_alike(output: Tensor, target: Tensor) -> float:
    """The share of rows whose nearest other row, by cosine, is of their class."""
    features = F.normalize(output, dim=1)
    likeness = (features @ features.T).fill_diagonal_(-2.0)
    return float((target[likeness.argmax(1)] == target).float().mean())


@new("HobbitLong/SupContrast#142", right={"nonfinite"}, words=("division", "divide", "function"))
def rows_without_a_pair(is_sick: bool) -> Training:
    """A supervised contrastive loss divides by the number of pairs of a row, which is 0 for some: the loss is NaN."""
    model = perceptron(64, 64, 16)
    loss_fn = partial(_supervised_contrast, is_guarded=not is_sick)
    return Training(
        model, epochs_of(*digits(), 16, 4), loss_fn, torch.optim.Adam(model.parameters(), 1e-3), measure=nearest_alike
    )


def _hardest(output: Tensor, target: Tensor, *, is_masked_wrongly: bool, margin: float = 0.5) -> Tensor:
    """Triplet loss with the nearest row of another class; `target` are classes."""
    features = F.normalize(output, dim=1)
    distance = 1 - features @ features.T
    is_same = target[:, None] == target
    furthest = distance.where(is_same, 0.0).amax(1)
    if is_masked_wrongly:
        return (furthest - distance.masked_fill(is_same, torch.inf).amax(1) + margin).relu().mean()
    return (furthest - distance.masked_fill(is_same, torch.inf).amin(1) + margin).relu().mean()


@new("jinnnju/PaAno#1", right={"loss_mismatch", "FL406"}, words=("loss constant", "constant"))
def hardest_negative_is_masked(is_sick: bool) -> Training:
    """Masked distances are infinite, and taken as the largest: the triplet loss is 0 for every output."""
    model = perceptron(64, 64, 16)
    loss_fn = partial(_hardest, is_masked_wrongly=is_sick)
    return Training(
        model, epochs_of(*digits(), 64, 6), loss_fn, torch.optim.Adam(model.parameters(), 1e-3), measure=nearest_alike
    )


@new(
    "xiaolonw/caffe-video_triplet#8, VisualComputingInstitute/triplet-reid#30",
    right={"learning_rate", "FL404"},
    words=("learning rate",),
    treatment="learning rate",
)
def triplets_collapse(is_sick: bool) -> Training:
    """At too high a rate all embeddings become one point, and the triplet loss stays at its margin."""
    model = perceptron(64, 64, 64, 16)
    loss_fn = partial(_hardest, is_masked_wrongly=False)
    optimizer = torch.optim.SGD(model.parameters(), 30.0 if is_sick else 0.05, momentum=0.9)
    return Training(model, epochs_of(*digits(), 64, 6), loss_fn, optimizer, measure=nearest_alike)


class _Through(nn.Module):
    """Embeddings that are scaled outside of the graph, through an array, as the published program selects them."""

    def __init__(self, *, is_detached: bool) -> None:
        super().__init__()
        self.body, self.is_detached = perceptron(64, 64, 16), is_detached

    def forward(self, inputs: Tensor) -> Tensor:
        output = self.body(inputs)
        return torch.from_numpy(output.detach().numpy().copy()) if self.is_detached else output


@new("liorshk/facenet_pytorch#6", right={"refused", "wiring", "FL405", "FL406"}, words=("graph", "detach", "depend"))
def embeddings_through_arrays(is_sick: bool) -> Training:
    """Embeddings go through an array before the triplet loss: no gradient comes back."""
    model = _Through(is_detached=is_sick)
    loss_fn = partial(_hardest, is_masked_wrongly=False)
    return Training(
        model, epochs_of(*digits(), 64, 4), loss_fn, torch.optim.Adam(model.parameters(), 1e-3), measure=nearest_alike
    )


class _Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = perceptron(64, 48, 8), perceptron(4, 48, 64)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(inputs).chunk(2, 1)
        hidden = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        return self.decoder(hidden), mean, log_variance


def _bound(output: tuple[Tensor, Tensor, Tensor], target: Tensor, *, sign: float, clamp: float) -> Tensor:
    logits, mean, log_variance = output
    log_variance = log_variance.clamp(-clamp, clamp)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    error = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    return (error + sign * divergence).mean()


@new("EderSantana/gumbel#3", right={"loss_mismatch"}, words=("sign", "minus", "without end"))
def divergence_with_the_wrong_sign(is_sick: bool) -> Training:
    """An autoencoder subtracts the divergence that it should add: its loss falls without end."""
    inputs, _ = digits()
    model = _Autoencoder()
    loss_fn = partial(_bound, sign=-1.0 if is_sick else 1.0, clamp=30.0)
    return Training(model, epochs_of(inputs, inputs, 32, 6), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


@published("AppliedDataSciencePartners/WorldModels#12", right={"FL404"}, words=("divergence",))
def error_averaged_beside_a_divergence(is_sick: bool) -> Training:
    """The error of an autoencoder is averaged over 64 pixels, its divergence is a sum: one picture is made for all."""
    inputs, _ = digits()
    model = _Autoencoder()

    def loss_fn(output: Any, target: Tensor) -> Tensor:
        whole = _bound(output, target, sign=1.0, clamp=30.0)
        error = F.binary_cross_entropy_with_logits(output[0], target, reduction="none").sum(1).mean()
        return whole - error + error / 64 if is_sick else whole

    return Training(model, epochs_of(inputs, inputs, 32, 6), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


@new(
    "vanderschaarlab/synthcity#331, pyg-team/pytorch_geometric#500",
    right={"nonfinite", "exploding", "input_scale", "learning_rate"},
    words=("clamp", "standardi", "exp", "learning rate"),
)
def log_variance_unbounded(is_sick: bool) -> Training:
    """The logarithm of a variance is not bounded before it is exponentiated: the loss becomes infinite, then NaN."""
    inputs, _ = digits()
    model = _Autoencoder()
    with torch.no_grad():
        model.encoder[2].weight[4:] *= 60
    loss_fn = partial(_bound, sign=1.0, clamp=1e9 if is_sick else 6.0)
    return Training(model, epochs_of(inputs, inputs, 32, 6), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


class Generator(nn.Module):
    """Rows of 64 values from noise."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(8, 32, 64, last=nn.Sigmoid())

    def forward(self, noise: Tensor) -> Tensor:
        return self.body(noise)


def adversaries(training: Training, monitor: Any, *, clears: bool) -> None:
    """A generator against the critic that is the training's model; the monitor watches the critic."""
    torch.manual_seed(0)
    generator = Generator()
    own = torch.optim.Adam(generator.parameters(), 1e-3)
    for inputs, _ in training.batches:
        made = generator(torch.randn(len(inputs), 8))
        if clears:
            training.optimizer.zero_grad()
        real, false = training.model(inputs), training.model(made.detach())
        ones = torch.ones_like(real)
        loss = F.binary_cross_entropy_with_logits(real, ones)
        loss = loss + F.binary_cross_entropy_with_logits(false, 0 * ones)
        loss.backward()
        training.optimizer.step()
        monitor.step(loss)
        if clears:
            own.zero_grad()
        gradients = torch.autograd.grad(
            F.binary_cross_entropy_with_logits(training.model(made), ones), list(generator.parameters())
        )
        for parameter, gradient in zip(generator.parameters(), gradients, strict=True):
            parameter.grad = gradient
        own.step()


@new(
    "opendp/smartnoise-sdk#280, Adversarial-Deep-Learning/code-soup#69",
    right={"accumulation"},
    words=("zero_grad",),
)
def critic_is_not_cleared(is_sick: bool) -> Training:
    """The gradients of a critic are never cleared between its steps."""
    inputs, _ = digits()
    model = perceptron(64, 32, 1)

    def critic_loss(output: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output, target)

    generator = torch.Generator().manual_seed(2)
    noise = torch.rand(len(inputs), 64, generator=generator)
    both = torch.cat([inputs, noise])
    labels = torch.cat([torch.ones(len(inputs), 1), torch.zeros(len(noise), 1)])
    loop = partial(adversaries, clears=not is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, epochs_of(both, labels, 32, 2), critic_loss, optimizer, loop)
