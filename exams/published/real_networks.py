"""Networks of usual size, each with three published kinds of faults, and healthy in three ways.

`python -m exams.published --networks` asks the checkup about all of them; `--names` of kinds, such as `resnet18`, about
some. Healthy ones must get no issue. The small networks of the other files of this folder are made of the same parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import images, pairs
from .case import Training, digits, epochs_of, perceptron
from .sequences import LongRecurrence, sentences, waves

Make = Callable[[str], Training]
HEALTHY = ("as usual", "other optimizer", "other seed")


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        make: callable(what) -> training; `what` is a fault, or one of `HEALTHY`.
        faults: What is wrong, with families and codes that name it.
    """

    make: Make
    faults: dict[str, frozenset[str]]


def _optimizer(model: nn.Module, what: str, adam: float, sgd: float) -> torch.optim.Optimizer:
    if what == "other optimizer":
        return torch.optim.SGD(model.parameters(), sgd, momentum=0.9)
    return torch.optim.Adam(model.parameters(), 1000 * adam if what == "rate times 1000" else adam)


class Block(nn.Module):
    """Two convolutions beside a shortcut, as in resnet18."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.first_relu, self.last_relu = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first_relu(self.first_norm(self.first(inputs)))
        return self.last_relu(self.second_norm(self.second(hidden)) + self.shortcut(inputs))


def resnet(num_classes: int) -> nn.Sequential:
    """A resnet18 with 11.2 million weights, drawn as He et al. do."""
    widths = [(64, 64), (64, 128), (128, 256), (256, 512)]
    blocks = [
        Block(*sizes, stride)
        for before, width in widths
        for sizes, stride in (((before, width), 1 if before == width else 2), ((width, width), 1))
    ]
    stem = (nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def resnet18(what: str, count: int = 320, size: int = 64) -> Training:
    """A whole resnet18 on digits, enlarged to 64 pixels."""
    inputs, target = digits(1, 8, 8)
    inputs = F.interpolate(inputs[:count], size=size).repeat(1, 3, 1, 1)
    target = target[:count]
    model = resnet(10)
    if what == "evaluation mode":
        model.eval()
    batches = epochs_of(inputs, target, 16, 4)
    if what == "in the order of classes":
        order = target.argsort(stable=True)
        batches = epochs_of(inputs[order], target[order], 16, 4, shuffle=False)
    return Training(model, batches, F.cross_entropy, _optimizer(model, what, 1e-3, 0.05))


class Transformer(nn.Module):
    """Four layers over sentences of a noisy chain; the next word at each place."""

    def __init__(self, *, is_causal: bool, is_cut: bool) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(12, 64), nn.Parameter(0.02 * torch.randn(32, 64))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True, norm_first=True) for _ in range(4)
        )
        self.out, self.is_causal, self.is_cut = nn.Linear(64, 12), is_causal, is_cut

    def forward(self, words_NT: Tensor) -> Tensor:
        count = words_NT.shape[1]
        mask = torch.full((count, count), -torch.inf).triu(1) if self.is_causal else None
        hidden_NTD = self.embedding(words_NT) + self.place[:count]
        for layer in self.layers:
            hidden_NTD = layer(hidden_NTD, src_mask=mask)
        return self.out(hidden_NTD.detach() if self.is_cut else hidden_NTD).transpose(1, 2)


def transformer(what: str) -> Training:
    """A language model of four layers."""
    words = sentences(512, 33)
    model = Transformer(is_causal=what != "no causal mask", is_cut=what == "detached")
    batches = epochs_of(words[:, :-1], words[:, 1:], 32, 5)
    return Training(model, batches, F.cross_entropy, _optimizer(model, what, 1e-3, 0.05))


def unet(what: str) -> Training:
    """A U-Net of width 24 on noisy squares."""
    inputs, masks = images.shapes(640, 24)
    model = images.UNet(24)
    if what == "masks of other images":
        masks = masks[torch.randperm(len(masks), generator=torch.Generator().manual_seed(3))]
    is_dice = what == "Dice of logits"

    def dice(output: Tensor, target: Tensor) -> Tensor:
        return images._dice(output, target)

    loss_fn = dice if is_dice else F.binary_cross_entropy_with_logits
    return Training(model, epochs_of(inputs, masks, 32, 5), loss_fn, _optimizer(model, what, 3e-3, 0.05))


def lstm(what: str) -> Training:
    """An LSTM over 100 steps, whose gradients are clipped.

    Without a clip it is sick: over eight seeds, a clip at the usual norm takes right answers on other rows from 87% to
    97% with Adam, and from 42% to 65% with SGD at 0.3, with a lower loss in 14 of the 16. With one, all are right in
    each of three seeds, with Adam and with RMSprop.
    """
    inputs, target = waves(640)
    model = LongRecurrence()
    if what == "steps first":
        model.recurrent.batch_first = False
    inputs = 1000 * inputs if what == "inputs times 1000" else inputs
    if what == "no clip":
        return Training(model, epochs_of(inputs, target, 32, 6), F.cross_entropy, _optimizer(model, what, 3e-3, 0.0))
    optimizer = _optimizer(model, what, 6e-3, 0.0)
    if what == "other optimizer":
        optimizer = torch.optim.RMSprop(model.parameters(), 2e-3)
    optimizer.register_step_pre_hook(_clip)
    return Training(model, epochs_of(inputs, target, 32, 8), F.cross_entropy, optimizer)


def _clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.3)


def critic(what: str) -> Training:
    """The critic of a GAN, on images and what an untrained generator makes."""
    inputs, _ = digits()
    with torch.no_grad():
        made = pairs.Generator()(torch.randn(len(inputs), 8))
    both = torch.cat([inputs, made])
    labels = torch.cat([torch.ones(len(inputs), 1), torch.zeros(len(made), 1)])
    last = nn.Sigmoid() if what == "sigmoid twice" else None
    model = perceptron(64, 64, 64, 1, activation=nn.LeakyReLU, last=last)
    if what == "all parts zero":
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    loss_fn = F.binary_cross_entropy_with_logits
    return Training(model, epochs_of(both, labels, 64, 4), loss_fn, _optimizer(model, what, 1e-3, 0.05))


def contrast(what: str) -> Training:
    """A supervised contrastive loss."""
    model = perceptron(64, 96, 96, 24)
    loss_fn: Any = partial(pairs._supervised_contrast, is_guarded=what != "rows without a pair")
    if what == "hardest is masked":
        loss_fn = partial(pairs._hardest, is_masked_wrongly=True)
    size = 16 if what == "rows without a pair" else 64
    return Training(model, epochs_of(*digits(), size, 6), loss_fn, _optimizer(model, what, 1e-3, 0.05))


def heavy_tails(what: str) -> Training:
    """A regression whose noise is Student's with two degrees of freedom."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1600, 12, generator=generator)
    normal, square = torch.randn(1600, 1, generator=generator), torch.randn(1600, 2, generator=generator).square()
    noise = normal / square.mean(1, keepdim=True).sqrt()
    target = inputs[:, :1] * inputs[:, 1:2] + inputs[:, 2:3].sin() + 0.3 * noise
    if what == "inputs times 1000":
        inputs = 1000 * inputs
    if what == "targets compared with all":
        target = target[:, 0]
    model = perceptron(12, 64, 64, 1)

    def squared(output: Tensor, goal: Tensor) -> Tensor:
        return (output - goal).square().mean()

    loss_fn = F.smooth_l1_loss if what == "other optimizer" else squared
    return Training(model, epochs_of(inputs, target, 32, 6), loss_fn, _optimizer(model, what, 2e-3, 0.02))


_RATE = frozenset({"learning_rate", "exploding"})
KINDS: dict[str, Kind] = {
    "resnet18": Kind(resnet18, {
        "rate times 1000": _RATE, "evaluation mode": frozenset({"FL604", "mode", "batchnorm"}),
        "in the order of classes": frozenset({"order", "FL507"}),
    }),
    "transformer": Kind(transformer, {
        "rate times 1000": _RATE, "no causal mask": frozenset({"FL510", "leak", "targets"}),
        "detached": frozenset({"FL405", "wiring"}),
    }),
    "unet": Kind(unet, {
        "rate times 1000": _RATE, "masks of other images": frozenset({"FL404", "targets"}),
        "Dice of logits": frozenset({"loss_mismatch"}),
    }),
    "lstm": Kind(lstm, {
        "rate times 1000": _RATE, "steps first": frozenset({"FL506", "wiring"}),
        "inputs times 1000": frozenset({"input_scale"}), "no clip": frozenset({"gradient_spikes", "exploding"}),
    }),
    "critic": Kind(critic, {
        "rate times 1000": _RATE, "sigmoid twice": frozenset({"loss_mismatch"}),
        "all parts zero": frozenset({"symmetry", "initialization", "dead_units", "vanishing", "FL406"}),
    }),
    "contrast": Kind(contrast, {
        "rate times 1000": _RATE, "rows without a pair": frozenset({"nonfinite"}),
        "hardest is masked": frozenset({"loss_mismatch", "FL406"}),
    }),
    "heavy_tails": Kind(heavy_tails, {
        "rate times 1000": _RATE, "inputs times 1000": frozenset({"input_scale"}),
        "targets compared with all": frozenset({"loss_mismatch"}),
    }),
}  # fmt: skip


def build(kind: str, what: str) -> Training:
    """A training of this kind, with a fault or healthy, from a seed that follows from what it is."""
    torch.manual_seed(2 if what == "other seed" else 1)
    return KINDS[kind].make(what)
