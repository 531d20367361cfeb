"""Counterparts of the networks of convolutions (legend: B batch, C channels, H W, T steps)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import by_hand as hand
from .counterpart import Counterpart, pad_same


class Sequences(nn.Module):
    """Dilated and causal convolutions of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Linear(8, 5)
        self.c3 = nn.Conv1d(8, 8, 3)
        self.c2 = nn.Conv1d(8, 8, 5, padding=4, dilation=2)
        self.c1 = nn.Conv1d(6, 8, 3, padding=1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        x = self.c2(self.c1(x_BCT).relu()).relu()
        x = self.c3(F.pad(x, (2, 0))).relu()
        return self.judge(F.max_pool1d(x, 2).mean(2))


class Plain(nn.Sequential):
    """Two convolutions and a flattening of channels first."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                eye=nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()),
                flat=nn.Flatten(),
                mind=nn.Sequential(nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 8)),
            )
        )


class Volumes(nn.Module):
    """Convolutions of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 4, (1, 2, 3)), nn.ReLU()
        )
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3, 4)))


class SamePadding(nn.Module):
    """Padding that depends on the size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(6, 4, 1)
        self.second = nn.Conv2d(6, 6, 5, stride=2)
        self.first = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(pad_same(x, 3, 2)).relu()
        x = F.max_pool2d(pad_same(x, 3, 2, value=-torch.inf), 3, 2)
        x = self.second(pad_same(x, 5, 2)).relu()
        counted = F.avg_pool2d(pad_same(torch.ones_like(x), 3, 2), 3, 2)
        return self.last(F.avg_pool2d(pad_same(x, 3, 2), 3, 2) / counted)


class Depthwise(nn.Module):
    """Depthwise convolutions as grouped ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([
            nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 4, 1),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:2]:
            x = layer(x).relu()
        return self.layers[2](x)


class SeparablePart(nn.Sequential):
    """A depthwise convolution without bias and a pointwise one with."""

    def __init__(self, conv: type[nn.Module], ins: int, outs: int, many: int = 1, **options: int) -> None:
        depth = conv(ins, ins * many, 3, groups=ins, bias=False, **options)
        super().__init__(OrderedDict(spatial=depth, channels=conv(ins * many, outs, 1)))


class Separable(nn.Module):
    """Separable convolutions of images, then of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.one = SeparablePart(nn.Conv2d, 3, 6, padding=1)
        self.two = SeparablePart(nn.Conv2d, 6, 6, 2, stride=2)
        self.three = SeparablePart(nn.Conv1d, 6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(pad_same(self.one(x).relu(), 3, 2)).relu()
        return self.three(x.flatten(2)).relu().mean(2)


class Grouped(nn.Sequential):
    """Grouped and dilated convolutions."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(8, 8, 3, dilation=2), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2),
        )  # fmt: skip


class TransposedSame(nn.Module):
    """Transposed convolutions, cropped where the padding of the source is not symmetric."""

    def __init__(self) -> None:
        super().__init__()
        self.paint = nn.Conv2d(4, 2, 3, padding=1)
        self.grow1 = nn.ConvTranspose2d(4, 4, 3, stride=2)
        self.grow2 = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grow1(x)[..., :-1, :-1].relu()
        return self.paint(self.grow2(x).relu())


class TransposedValid(nn.Sequential):
    """Transposed convolutions of full size; the second fills up to its stride."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                a=nn.ConvTranspose2d(3, 5, 3, stride=2),
                relu=nn.ReLU(),
                b=nn.ConvTranspose2d(5, 3, 2, stride=3, output_padding=1),
            )
        )


class FlattenPermuted(nn.Module):
    """Channels are moved last before the flattening, so that the dense layer stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.read = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv(x).relu(), 2)
        return self.read(x.permute(0, 2, 3, 1).flatten(1))


class Chain(nn.Module):
    """Twelve equal convolutions in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(12)])

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x).tanh()
        return x


class Twins(nn.Module):
    """Two branches, registered in another order than they are used in."""

    def __init__(self) -> None:
        super().__init__()
        self.minus, self.plus = (
            nn.Sequential(
                nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(6, 6),
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.plus(x) - self.minus(x)


class UNet(nn.Module):
    """Maps of each size side by side; the way down in one list, the way up in another."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ModuleList([nn.ConvTranspose2d(16, 8, 2, stride=2), nn.ConvTranspose2d(8, 4, 2, stride=2)])
        self.merge = nn.ModuleList([nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)])
        self.down = nn.ModuleList([self.pair(2, 4), self.pair(4, 8)])
        self.bottom = nn.Conv2d(8, 16, 3, padding=1)
        self.mask = nn.Conv2d(4, 1, 1)

    @staticmethod
    def pair(ins: int, outs: int) -> nn.Sequential:
        """Two convolutions of one size."""
        return nn.Sequential(
            nn.Conv2d(ins, outs, 3, padding=1), nn.ReLU(), nn.Conv2d(outs, outs, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for pair in self.down:
            x = pair(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x).relu()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1)).relu()
        return self.mask(x).sigmoid()


def separable(name: str, source: str) -> dict[str, hand.Rule]:
    """The two parts of a separable convolution."""
    return {
        f"{name}.spatial": lambda arrays: {"weight": hand.depthwise(hand.unit(arrays, source)["depthwise_kernel"])},
        f"{name}.channels": lambda arrays: {
            "weight": hand.convolution(hand.unit(arrays, source)["pointwise_kernel"]),
            "bias": hand.unit(arrays, source)["bias"],
        },
    }


def numbered(name: str, index: int) -> str:
    """The name that Keras gives to the layer `index` of a kind."""
    return f"{name}_{index}" if index else name


BRANCH = {"0": "a", "2": "b", "6": "c"}

COUNTERPARTS = {
    "conv1d": Counterpart(Sequences, {"c1": "first", "c2": "wide", "c3": "past", "judge": "scores"}, moved=True),
    "conv2d": Counterpart(
        Plain,
        {"eye.0": "edges", "eye.2": "shapes", "mind.0": hand.flattened("hidden", 4, 4, 8), "mind.2": "scores"},
        moved=True,
    ),
    "conv3d": Counterpart(Volumes, {"features.0": "low", "features.3": "high", "fc": "out"}, moved=True),
    "same_padding": Counterpart(SamePadding, {"first": "stem", "second": "body", "last": "map"}, moved=True),
    "depthwise": Counterpart(Depthwise, {"layers.0": "single", "layers.1": "double", "layers.2": "mix"}, moved=True),
    "separable": Counterpart(
        Separable, separable("one", "sep_a") | separable("two", "sep_b") | separable("three", "sep_c"), moved=True
    ),
    "grouped": Counterpart(Grouped, {"0": "grouped", "2": "dilated", "4": "both"}, moved=True),
    "transposed_same": Counterpart(TransposedSame, {"grow1": "up_a", "grow2": "up_b", "paint": "draw"}, moved=True),
    "transposed_valid": Counterpart(TransposedValid, {"a": "up_a", "b": "up_b"}, moved=True),
    "flatten_permuted": Counterpart(FlattenPermuted, {"conv": "eye", "read": "out"}, moved=True),
    "twelve_convs": Counterpart(Chain, {f"steps.{i}": numbered("conv2d", i) for i in range(12)}, moved=True),
    "twins": Counterpart(
        Twins,
        {
            f"{branch}.{at}": f"{side}_{part}"
            for branch, side in (("plus", "photo"), ("minus", "sketch"))
            for at, part in BRANCH.items()
        },
        moved=True,
    ),
    "unet": Counterpart(
        UNet,
        {
            "down.0.0": "conv2d", "down.0.2": "conv2d_1", "down.1.0": "conv2d_2", "down.1.2": "conv2d_3",
            "bottom": "conv2d_4", "merge.0": "conv2d_5", "merge.1": "conv2d_6", "mask": "conv2d_7",
            "up.0": "conv2d_transpose", "up.1": "conv2d_transpose_1",
        },
        moved=True,
    ),
}  # fmt: skip
