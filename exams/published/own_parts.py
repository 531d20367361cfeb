"""Layers, weights and optimizers of one's own that compute something else: of the third draw (docs/exam.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published

third = partial(published, part="third draw")


class _Norm(nn.Module):
    """A batch norm of one's own: by the batch while training, by running statistics afterwards. (N, C, H, W)."""

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, *, power: float) -> None:
        super().__init__()
        self.scale_C, self.shift_C = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.power = power

    def forward(self, maps: Tensor) -> Tensor:
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
            with torch.no_grad():
                self.mean.lerp_(mean, 0.1)
                self.variance.lerp_(variance, 0.1)
        wide = (slice(None), None, None)
        normed = (maps - mean[wide]) / (variance[wide] + 1e-3) ** self.power
        return self.scale_C[wide] * normed + self.shift_C[wide]


@third(
    "jax-ml/jax#442",
    right={"batchnorm", "exploding", "FL102"},
    words=("norm", "sqrt", "square root", "variance", "deviation"),
    line="normed = (maps - mean) / (variance + eps) ** 0.5 (and not ** 2)",
    counts="That the outputs of the norm layers have the wrong size, or that outputs or gradients grow from layer to "
    "layer.",
)
def variance_is_squared(is_sick: bool) -> Training:
    """A batch norm of one's own divides by the square of the variance, in place of its root."""
    power = 2.0 if is_sick else 0.5
    parts: list[nn.Module] = []
    for before in (1, 12, 12):
        parts += [nn.Conv2d(before, 12, 3, padding=1), _Norm(12, power=power), nn.ReLU()]
    model = nn.Sequential(*parts, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, epochs_of(*digits(1, 8, 8), 32, 3), F.cross_entropy, optimizer)


class _Drop(nn.Module):
    """A dropout of one's own; what is kept is divided by this share."""

    def __init__(self, *, divided_by: float) -> None:
        super().__init__()
        self.divided_by = divided_by

    def forward(self, hidden: Tensor) -> Tensor:
        is_kept = torch.rand_like(hidden) >= 0.1
        return hidden * is_kept / self.divided_by if self.training else hidden


@third(
    "kaldi-asr/kaldi#2815",
    right={"FL410", "FL605", "dropout", "mode"},
    words=("dropout", "1 - p", "scale", "eval"),
    line="hidden * is_kept / (1 - p) (and not / p)",
    counts="That the dropout layers scale wrongly, or that training and evaluation mode give different outputs.",
)
def kept_units_divided_by_the_dropped_share(is_sick: bool) -> Training:
    """A dropout of a tenth divides what it keeps by 0.1 and not by 0.9: evaluation sees other sizes than training."""
    share = 0.1 if is_sick else 0.9
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), _Drop(divided_by=share), nn.Linear(64, 64), nn.ReLU(), _Drop(divided_by=share),
        nn.Linear(64, 64), nn.ReLU(), _Drop(divided_by=share), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer)


class _Rounded(torch.autograd.Function):
    """Rounded to four values from 0 to 1; the gradient passes as it is."""

    @staticmethod
    def forward(ctx: object, weight: Tensor) -> Tensor:
        """(out, in) to four values."""
        return (weight * 3).round() / 3

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """The gradient itself."""
        return gradient


class _Quantized(nn.Linear):
    """A linear layer whose weights take four values."""

    is_scaled = True

    def forward(self, inputs: Tensor) -> Tensor:
        bent = self.weight.tanh()
        largest = bent.abs().max().detach()
        rounded = 2 * _Rounded.apply(bent / (2 * largest) + 0.5) - 1
        return F.linear(inputs, largest * rounded if self.is_scaled else rounded, self.bias)


@third(
    "zzzxxxttt/pytorch_DoReFaNet#9",
    right={"initialization", "exploding", "FL102", "FL302"},
    words=("scale", "init", "weights", "too large"),
    line="weight = largest * rounded (the weights were not scaled, and went from -1 to 1)",
    counts="That weights are too large for their layers, or that outputs or gradients grow from layer to layer.",
)
def rounded_weights_without_their_scale(is_sick: bool) -> Training:
    """Weights of two bits are not scaled back: they go from -1 to 1, and outputs grow from layer to layer."""
    parts: list[nn.Module] = []
    for before in (64, 128, 128, 128):
        parts += [_Quantized(before, 128), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Linear(128, 10))
    for part in parts[::2]:
        part.is_scaled = not is_sick
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer)


class _Adapted(nn.Module):
    """A frozen linear layer, and a product of two narrow matrices beside it."""

    def __init__(self, known: nn.Linear, *, rank: int, times: float) -> None:
        super().__init__()
        self.known, self.times = known.requires_grad_(requires_grad=False), times
        self.down = nn.Parameter(torch.randn(rank, known.in_features) / known.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(known.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.known(inputs) + self.times * (inputs @ self.down.T @ self.up.T)


def known_of_digits() -> nn.Sequential:
    """A perceptron that was trained on which digit an image is."""
    images, target = digits()
    whole = perceptron(64, 64, 64, 10)
    optimizer = torch.optim.Adam(whole.parameters(), 3e-3)
    for inputs, classes in epochs_of(images[:900], target[:900], 32, 8):
        optimizer.zero_grad()
        F.cross_entropy(whole(inputs), classes).backward()
        optimizer.step()
    return whole


@third(
    "Blaizzy/mlx-vlm#986",
    right={"FL401", "exploding", "FL102"},
    words=("learning rate", "lr=", "scaling", "alpha"),
    treatment="learning rate",
    line="self.scaling = alpha / rank (and not alpha)",
    counts="That steps are too large for these layers, or that their outputs are scaled too much.",
)
def adapter_scaled_by_alpha(is_sick: bool) -> Training:
    """The output of an adapter is multiplied by alpha, and not by alpha over its rank: 32 times what was meant."""
    images, target = digits()
    rank, alpha = 32, 64.0
    layers = [
        _Adapted(part, rank=rank, times=alpha if is_sick else alpha / rank) if isinstance(part, nn.Linear) else part
        for part in known_of_digits()
    ]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], 5e-3)
    return Training(model, epochs_of(images[900:], 9 - target[900:], 16, 6), F.cross_entropy, optimizer)


class _Adam(torch.optim.Optimizer):
    """An Adam of one's own."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, *, divides: bool) -> None:
        super().__init__(parameters, {"lr": lr})
        self.divides = divides

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
                state["step"] += 1
                mean, square = state["mean"].lerp_(parameter.grad, 0.1), state["square"]
                square.lerp_(parameter.grad.square(), 0.001)
                of_mean, of_square = 1 - 0.9 ** state["step"], 1 - 0.999 ** state["step"]
                if self.divides:
                    of_mean, of_square = 1 / of_mean, 1 / of_square
                parameter -= group["lr"] * of_mean * mean / ((of_square * square).sqrt() + 1e-8)
        return closure() if closure is not None else None


@third(
    "karpathy/convnetjs#70",
    right={"FL401", "optimizer"},
    words=("learning rate", "lr=", "adam", "bias correction", "optimizer"),
    treatment="learning rate",
    line="mean / (1 - 0.9 ** step), square / (1 - 0.999 ** step) (and not times these)",
    counts="That steps are too large, or that the optimizer is to blame: the usual one in its place is far better.",
)
def moments_corrected_the_wrong_way(is_sick: bool) -> Training:
    """An Adam of one's own multiplies its moments by what it should divide them by: steps are 10 times as large."""
    model = perceptron(64, 64, 64, 64, 10)
    optimizer = _Adam(model.parameters(), 0.01, divides=not is_sick)
    return Training(model, epochs_of(*digits(), 32, 5), F.cross_entropy, optimizer)


class _Kernel(nn.Module):
    """Linear attention over the rows of an image, with rectified features. (N, 8, 8)."""

    def __init__(self, *, kind: torch.dtype) -> None:
        super().__init__()
        self.given, self.value, self.out, self.kind = nn.Linear(8, 16), nn.Linear(8, 32), nn.Linear(256, 10), kind

    def forward(self, images: Tensor) -> Tensor:
        query, key = self.given(images).relu().to(self.kind).chunk(2, 2)
        found = query @ (key.transpose(1, 2) @ self.value(images).to(self.kind))
        total = query @ key.sum(1)[:, :, None] + 1e-8
        return self.out((found / total).float().flatten(1))


@third(
    "facebookresearch/xformers#96",
    right={"FL502", "nonfinite"},
    words=("float32", "half precision", "fp16", "underflow", "division", "divide", "clamp"),
    line="with autocast off: query, key = query.float(), key.float() (1e-8 is 0 in half precision)",
    counts="That outputs or the loss are not finite, since a divisor is 0.",
)
def half_a_precision_too_few(is_sick: bool) -> Training:
    """What keeps a divisor above 0, 1e-8, rounds to 0 in half precision: where no feature is on, 0 is divided by 0."""
    images, target = digits(8, 8)
    model = _Kernel(kind=torch.float16 if is_sick else torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, target, 32, 8), F.cross_entropy, optimizer)


class _Waves(nn.Module):
    """Sines and cosines of a place in a picture, with frequencies that double, before a perceptron. (N, 2)."""

    def __init__(self, *, unit: float) -> None:
        super().__init__()
        self.body, self.unit = perceptron(16, 64, 64, 1), unit

    def forward(self, place_N2: Tensor) -> Tensor:
        angle = (self.unit * place_N2[..., None] * 2.0 ** torch.arange(4)).flatten(1)
        return self.body(torch.cat([angle.sin(), angle.cos()], 1))


@third(
    "KanishJebaMathewM/Truxify#12551",
    right={"FL501", "input_scale"},
    words=("frequenc", "standardi", "scale", "encod"),
    line="freq = 2 ** i * math.pi (and not 2 ** i)",
    counts="That inputs, or what is made of them, vary too slowly, or are in too small a unit, for what is asked.",
)
def frequencies_without_pi(is_sick: bool) -> Training:
    """Sines of a place have no factor of pi: the highest frequency is a third of what details of the target need."""
    generator = torch.Generator().manual_seed(0)
    place = 2 * torch.rand(3200, 2, generator=generator) - 1
    target = ((8 * math.pi * place[:, :1]).sin() + (7 * math.pi * place[:, 1:]).cos()) * place.sum(1, keepdim=True)
    model = _Waves(unit=1.0 if is_sick else math.pi)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(place, target, 32, 6), F.mse_loss, optimizer)


@third(
    "mnielsen/neural-networks-and-deep-learning#30",
    right={"initialization", "saturation", "FL302", "FL202"},
    words=("init", "weights", "fan", "n_in"),
    treatment="new weights",
    line="std = (1 / n_in) ** 0.5 (and not (1 / n_out) ** 0.5)",
    counts="That weights start too large, or that the units are saturated from the start.",
)
def weights_by_the_number_of_outputs(is_sick: bool) -> Training:
    """The deviation of first weights follows the number of outputs, not of inputs: 4,096 inputs saturate all units."""
    images, target = digits(1, 8, 8)
    images = F.interpolate(images, scale_factor=8.0, mode="bilinear").flatten(1)
    model = perceptron(4096, 8, 10, activation=nn.Tanh)
    for layer in model:
        if isinstance(layer, nn.Linear):
            count = layer.out_features if is_sick else layer.in_features
            nn.init.normal_(layer.weight, std=count**-0.5)
            nn.init.normal_(layer.bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    return Training(model, epochs_of(images, target, 32, 6), F.cross_entropy, optimizer)
