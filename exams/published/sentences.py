"""Sequences, and what a network is to make of them: of the fourth draw (docs/exam.md)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron
from .examples import explained
from .misfits import fourth


class _Translator(nn.Module):
    """A signal of 8 steps, and what the decoder gets: (N, 14, 2) to the 6 steps that follow, (N, 6, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.own, self.out = nn.Linear(2, 32), nn.Linear(2, 32), nn.Linear(32, 2)
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    def forward(self, given: Tensor) -> Tensor:
        memory = self.encoder(self.source(given[:, :8]))
        later = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
        return self.out(self.decoder(self.own(given[:, 8:]), memory, tgt_mask=later))


@fourth(
    "openillumi.com/en/en-pytorch-transformer-multidim-output-same-fix",
    right={"FL513", "FL501", "wiring", "input_scale"},
    words=("zero", "constant", "same", "decoder", "do not change", "shift"),
    line="output = model(source, target[:, :-1]) (and not torch.zeros for what the decoder gets)",
    counts="That what the decoder gets is always the same, zeros, so that all places of the output are alike.",
)
def decoder_gets_zeros(is_sick: bool) -> Training:
    """The decoder of a transformer gets zeros in place of the target before: all steps of its output are alike."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(1600, 1, 1, generator=generator) * 6.283
    speed = 0.4 + 0.5 * torch.rand(1600, 1, 1, generator=generator)
    angle = start + speed * torch.arange(14)[None, :, None]
    signal = torch.cat([angle.sin(), angle.cos()], 2)
    shifted = torch.zeros(1600, 6, 2) if is_sick else signal[:, 7:13]
    given = torch.cat([signal[:, :8], shifted], 1)
    model = _Translator()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    return Training(model, epochs_of(given, signal[:, 8:], 32, 6), F.mse_loss, optimizer, measure=explained)


_MASK = 4


def _masked(words: Tensor, times: int, share: float) -> tuple[Tensor, Tensor]:
    """Words of which some are masked, again and again, and those to say, of the last time alone; -100 elsewhere."""
    generator = torch.Generator().manual_seed(1)
    given = words.clone()
    is_asked = torch.zeros_like(words, dtype=torch.bool)
    for _ in range(times):
        is_asked = torch.rand(words.shape, generator=generator) < share
        given[is_asked] = _MASK
    return given, words.masked_fill(~is_asked, -100)


class _Reader(nn.Module):
    """The word at each place, of all that are around it. (N, T) to (N, 4, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(5, 24), nn.Embedding(17, 24)
        self.body = nn.Sequential(
            nn.Conv1d(24, 64, 5, padding=2), nn.ReLU(), nn.Conv1d(64, 64, 1), nn.ReLU(), nn.Conv1d(64, 4, 1)
        )

    def forward(self, words_NT: Tensor) -> Tensor:
        return self.body((self.embedding(words_NT) + self.places.weight).transpose(1, 2))


@fourth(
    "deepset-ai/FARM#158",
    right={"FL514", "targets", "masking"},
    words=("mask", "label", "token"),
    line="(indented into the loop) samples.append(copy(sample)) (one object was masked three times)",
    counts="That many words are masked without a label: the input holds more masks than the labels have counterparts.",
)
def masked_three_times(is_sick: bool) -> Training:
    """Each sample is masked three times, and has the labels of the last time alone: most of its words are gone."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(4, (3000, 17), generator=generator)
    words[:, 1::2] = (words[:, :-1:2] + words[:, 2::2]) % 4
    given, target = _masked(words, 3 if is_sick else 1, 0.4)
    # a sentence of which two in ten words are missing is what it will get
    asked, wanted = _masked(words[:400].roll(7, 0), 1, 0.2)
    model = _Reader()

    def measure(_: Tensor, __: Tensor) -> float:
        is_asked = wanted >= 0
        return float((model(asked).argmax(1) == wanted)[is_asked].float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(given, target, 32, 3), F.cross_entropy, optimizer, measure=measure)


class _Coder(nn.Module):
    """Pixels, and mean and logarithm of the variance of a code: (N, 64) to (N, 80)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = perceptron(64, 64, 16), perceptron(8, 64, 64, last=nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        mean, log_variance = self.encoder(images).chunk(2, 1)
        code = mean + (log_variance / 2).exp() * torch.randn_like(mean) * self.training
        return torch.cat([self.decoder(code), mean, log_variance], 1)


@fourth(
    "Mathux/ACTOR#5",
    right={"FL503", "FL517", "loss_mismatch"},
    words=("weight", "term", "divergence", "constant"),
    line="loss = error + 1e-5 * divergence (and not 1)",
    counts="That of two terms of the loss the divergence counts for far too much, or that constant outputs are best.",
)
def divergence_counts_for_all(is_sick: bool) -> Training:
    """The divergence of a variational autoencoder has far too large a weight: all codes, and all images, are alike."""
    images, _ = digits()
    weight = 1.0 if is_sick else 1e-4
    model = _Coder()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        pixels, mean, log_variance = output.split((64, 8, 8), 1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return F.mse_loss(pixels, target) + weight * divergence

    def measure(output: Tensor, target: Tensor) -> float:
        return explained(output[:, :64], target)

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, images, 32, 8), loss_fn, optimizer, measure=measure)


class _Values(nn.Module):
    """What each state is worth: of a state and of the one after it. (N, 2, 10) to (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(10, 32, 1)

    def forward(self, states: Tensor) -> Tensor:
        return self.body(states)[..., 0]


@fourth(
    "stats.stackexchange.com/questions/200006",
    right={"FL402", "FL503", "FL517", "learning_rate", "loss_mismatch"},
    words=("learning rate", "target", "rate"),
    line="target = reward + gamma * value_after (and not value + alpha * (reward + gamma * value_after - value))",
    counts="That the value is compared with something that is nearly itself: steps are far too small, or the target is "
    "wrong.",
)
def target_moves_by_the_rate(is_sick: bool) -> Training:
    """The target of a value is that value, moved by a hundredth towards what it should be: it hardly ever changes."""
    at = torch.randint(10, (12_800,), generator=torch.Generator().manual_seed(0))
    one_hot = torch.eye(10)
    after = (at + 1).clamp_max(9)
    states = torch.stack([one_hot[at], one_hot[after]], 1)
    reward = (at == 9).float()[:, None]
    worth = 0.8 ** (9 - torch.arange(10)).float()
    model = _Values()

    def loss_fn(value: Tensor, reward: Tensor) -> Tensor:
        now, then = value.unbind(1)
        wanted = reward[:, 0] + 0.8 * then * (reward[:, 0] == 0)
        wanted = now + 0.01 * (wanted - now) if is_sick else wanted
        return (now - wanted.detach()).square().mean()

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model(one_hot[:, None])[:, :1], worth[:, None])

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return Training(model, epochs_of(states, reward, 32, 1), loss_fn, optimizer, measure=measure)
