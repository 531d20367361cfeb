"""Networks that make points and images, which come out wrong: of the third draw (docs/exam.md)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published

third = partial(published, part="third draw")


class _Denoiser(nn.Module):
    """The noise in a point, which is given with that noise and the share of steps that were taken: (N, 5) to (N, 2)."""

    def __init__(self, *, steps: int) -> None:
        super().__init__()
        self.body, self.steps = perceptron(3, 64, 64, 2), steps
        self.register_buffer("rates", torch.linspace(1e-3, 0.2, steps))

    def kept(self) -> Tensor:
        """(T,) how much of the square of a point is left after each step."""
        return (1 - self.get_buffer("rates")).cumprod(0)

    def noise(self, noisy: Tensor, step: Tensor) -> Tensor:
        """What is taken for the noise."""
        return self.body(torch.cat([noisy, step[:, None] / self.steps], 1))

    def forward(self, given_N5: Tensor) -> Tensor:
        point, noise, share = given_N5.split((2, 2, 1), 1)
        step = (share[:, 0] * self.steps).long()
        kept = self.kept()[step, None]
        return self.noise(kept.sqrt() * point + (1 - kept).sqrt() * noise, step)

    @torch.no_grad()
    def made(self, count: int) -> Tensor:
        """So many points, from noise."""
        point = torch.randn(count, 2)
        for step in reversed(range(self.steps)):
            rate, kept = self.get_buffer("rates")[step], self.kept()[step]
            noise = self.noise(point, torch.full((count,), step))
            point = (point - rate / (1 - kept).sqrt() * noise) / (1 - rate).sqrt()
            point = point + rate.sqrt() * torch.randn_like(point) if step else point
        return point


def _likeness(made: Tensor, real: Tensor, none: Tensor) -> float:
    """1 where means and deviations are alike, 0 where they are as far apart as those of `none`."""

    def away(points: Tensor) -> Tensor:
        return (points.mean(0) - real.mean(0)).square().mean() + (points.std(0) - real.std(0)).square().mean()

    return max(0.0, float(1 - away(made) / away(none)))


@third(
    "IDEALLab/EngiOpt#67",
    right={"noise_schedule"},
    words=("noise", "signal", "beta"),
    line="num_timesteps = 1000 (and not 250, after which 0.28 of the signal is left)",
    counts="That the noise of the last step is too little: what is made begins with points that training never sees.",
)
def noise_that_leaves_the_signal(is_sick: bool) -> Training:
    """A schedule of noise has too few steps: a part of the signal is left at its end, where nothing should be."""
    generator = torch.Generator().manual_seed(0)
    is_far = torch.arange(51_200)[:, None] % 2
    points = 2 + 3 * is_far * torch.tensor([1.0, 0.0]) + 0.3 * torch.randn(51_200, 2, generator=generator)
    noise, share = torch.randn(51_200, 2, generator=generator), torch.rand(51_200, 1, generator=generator)
    model = _Denoiser(steps=12 if is_sick else 100)

    def measure(_: Tensor, __: Tensor) -> float:
        # half of the points should be far
        return float(1 - 2 * ((model.made(1000)[:, 0] > 3.5).float().mean() - 0.5).abs())

    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    batches = epochs_of(torch.cat([points, noise, share], 1), noise, 64, 1)
    return Training(model, batches, F.mse_loss, optimizer, measure=measure)


class _Flow(nn.Module):
    """An autoencoder whose code goes through an affine flow: pixels and what its divergence is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = perceptron(64, 64, 16), perceptron(8, 64, 64, last=nn.Sigmoid())
        self.turn, self.shift = nn.Parameter(torch.eye(8)), nn.Parameter(torch.zeros(8))

    def forward(self, images: Tensor) -> Tensor:
        mean, log_variance = self.encoder(images).chunk(2, 1)
        log_variance = log_variance.clamp(-8, 4)
        first = mean + (log_variance / 2).exp() * torch.randn_like(mean) * self.training
        last = first @ self.turn.T + self.shift
        of_noise = -0.5 * (log_variance + (first - mean).square() / log_variance.exp()).sum(1, keepdim=True)
        of_flow = torch.linalg.slogdet(self.turn).logabsdet.expand_as(of_noise)
        return torch.cat([self.decoder(last), of_noise, of_flow, first, last], 1)


@third(
    "casperkaae/parmesan#21",
    right={"FL503", "loss_mismatch", "exploding", "FL102"},
    words=("without end", "bound", "falls below", "prior"),
    line="log_prior = log_normal(zK) (and not of z0)",
    counts="That the loss has no lower bound, or that something grows without end while it falls.",
)
def prior_of_the_first_code(is_sick: bool) -> Training:
    """The prior is taken of the code before a flow and not after it: the flow may stretch codes without end."""
    images, _ = digits()
    model = _Flow()

    def loss_fn(output: Tensor, images: Tensor) -> Tensor:
        pixels, of_noise, of_flow, first, last = output.split((64, 1, 1, 8, 8), 1)
        error = F.binary_cross_entropy(pixels, images, reduction="none").sum(1)
        of_prior = -0.5 * (first if is_sick else last).square().sum(1)
        return (error + of_noise[:, 0] - of_flow[:, 0] - of_prior).mean()

    def measure(_: Tensor, __: Tensor) -> float:
        return _likeness(model.decoder(torch.randn(500, 8)), images, torch.full((500, 64), 0.5))

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, images, 32, 10), loss_fn, optimizer, measure=measure)


_said = F.binary_cross_entropy_with_logits


class _Adversaries(nn.Module):
    """Scores of real images and of those made of a code, and what the critic's inner layer sees. (N, 72) to (N, 67)."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = perceptron(8, 64, 64, last=nn.Sigmoid())
        self.seen = perceptron(64, 64, 32, activation=nn.LeakyReLU)
        self.score = nn.Linear(32, 1)

    def forward(self, given: Tensor) -> Tensor:
        real, made = given[:, :64], self.generator(given[:, 64:])
        of_real, of_made = self.seen(real), self.seen(made.detach())
        held = {name: one.detach() for name, one in self.seen.named_parameters()}
        judged = functional_call(self.seen, held, (made,))
        of_generator = F.linear(judged, self.score.weight.detach(), self.score.bias.detach())
        return torch.cat([self.score(of_real), self.score(of_made), of_generator, of_real, of_made], 1)


@third(
    "samet-akcay/ganomaly#31",
    right={"FL405", "loss_mismatch", "FL503", "wiring"},
    words=("critic", "discriminat", "score", "detach"),
    line="loss_d = bce(score_real, 1) + bce(score_made, 0) (and not |f(real) - f(made)|)",
    counts="That the critic is not trained to tell real images from made ones: its loss leads features together, or "
    "its last layer gets no gradient.",
)
def critic_makes_all_alike(is_sick: bool) -> Training:
    """A critic is trained to have like features for real and made images, and never to tell one from the other."""
    images, _ = digits()
    codes = torch.randn(12 * 1797, 8, generator=torch.Generator().manual_seed(0))
    given = torch.cat([images.repeat(12, 1), codes], 1)
    model = _Adversaries()

    def loss_fn(output: Tensor, labels: Tensor) -> Tensor:
        scores, of_real, of_made = output.split((3, 32, 32), 1)
        real, made, of_generator = scores.unbind(1)
        tells_apart = _said(real, labels[:, 0]) + _said(made, labels[:, 1])
        critic = (of_real - of_made).square().mean() if is_sick else tells_apart
        return critic + _said(of_generator, labels[:, 2])

    def measure(_: Tensor, __: Tensor) -> float:
        return _likeness(model.generator(torch.randn(500, 8)), images, torch.full((500, 64), 0.5))

    optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.5, 0.999))
    labels = torch.tensor([[1.0, 0.0, 1.0]]).repeat(len(given), 1)
    return Training(model, epochs_of(given, labels, 32, 1), loss_fn, optimizer, measure=measure)
