"""Counterparts of the well-known families of image networks, small (B batch, C channels, H W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolutions import numbered
from .counterpart import Counterpart, pad_same


class Bottleneck(nn.Module):
    """Its shortcut, where it has one, is registered first, and has the shape of the first convolution."""

    def __init__(self, stride: int, *, projects: bool) -> None:
        super().__init__()
        if projects:
            self.skip = nn.Sequential(nn.Conv2d(8, 8, 1, stride=stride), nn.BatchNorm2d(8, eps=1.001e-5))
        self.reduce, self.r_bn = nn.Conv2d(8, 8, 1, stride=stride), nn.BatchNorm2d(8, eps=1.001e-5)
        self.spatial, self.s_bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, eps=1.001e-5)
        self.restore, self.e_bn = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, eps=1.001e-5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.r_bn(self.reduce(x)).relu()
        y = self.s_bn(self.spatial(y)).relu()
        y = self.e_bn(self.restore(y))
        return ((self.skip(x) if hasattr(self, "skip") else x) + y).relu()


class ResNet(nn.Module):
    """Four blocks in two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=3), nn.BatchNorm2d(8, eps=1.001e-5))
        self.stage1 = nn.Sequential(Bottleneck(1, projects=True), Bottleneck(1, projects=False))
        self.stage2 = nn.Sequential(Bottleneck(2, projects=True), Bottleneck(1, projects=False))
        self.classify = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.pad(self.stem(x).relu(), (1, 1, 1, 1)), 3, 2)
        return self.classify(self.stage2(self.stage1(x)).mean((2, 3)))


class Inverted(nn.Module):
    """An inverted residual: wide in the middle."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.bns = nn.ModuleList([nn.BatchNorm2d(width, eps=1e-3, momentum=1e-3) for width in (16, 16, 8)])
        self.convs = nn.ModuleList([
            nn.Conv2d(8, 16, 1, bias=False), nn.Conv2d(16, 16, 3, stride=stride, groups=16, bias=False),
            nn.Conv2d(16, 8, 1, bias=False),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bns[0](self.convs[0](x)))
        y = F.relu6(self.bns[1](self.convs[1](pad_same(y, 3, self.stride))))
        y = self.bns[2](self.convs[2](y))
        return x + y if self.stride == 1 else y


class MobileNet(nn.Module):
    """Five inverted residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.first_bn = nn.BatchNorm2d(8, eps=1e-3, momentum=1e-3)
        self.body = nn.Sequential(*(Inverted(stride) for stride in (1, 2, 1, 2, 1)))
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.first_bn(self.first(pad_same(x, 3, 2))))
        return self.out(self.body(x).mean((2, 3)))


class Excited(nn.Module):
    """An inverted residual with squeeze and excitation."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.SiLU(), nn.Conv2d(4, 16, 1), nn.Sigmoid()
        )
        self.dw = nn.Conv2d(16, 16, kernel, stride=stride, groups=16, bias=False)
        self.pw_in, self.pw_out = nn.Conv2d(8, 16, 1, bias=False), nn.Conv2d(16, 8, 1, bias=False)
        self.n1, self.n2, self.n3 = (nn.BatchNorm2d(width, eps=1e-3, momentum=0.01) for width in (16, 16, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.n1(self.pw_in(x)))
        y = F.silu(self.n2(self.dw(pad_same(y, self.kernel, self.stride))))
        y = self.n3(self.pw_out(y * self.se(y)))
        return x + y if self.stride == 1 else y


class EfficientNet(nn.Module):
    """Three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.ModuleDict({"conv": nn.Conv2d(3, 8, 3, stride=2, bias=False), "bn": nn.BatchNorm2d(8, 1e-3)})
        self.stages = nn.ModuleList([Excited(3, 1), Excited(5, 2), Excited(3, 1)])
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.entry["bn"](self.entry["conv"](pad_same(x, 3, 2))))
        for stage in self.stages:
            x = stage(x)
        return self.out(x.mean((2, 3)))


class Dense(nn.Module):
    """One block of DenseNet."""

    def __init__(self, ins: int) -> None:
        super().__init__()
        self.pre, self.post = nn.BatchNorm2d(ins, eps=1.001e-5), nn.BatchNorm2d(8, eps=1.001e-5)
        self.squeeze = nn.Conv2d(ins, 8, 1, bias=False)
        self.grow = nn.Conv2d(8, 4, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(self.pre(x).relu())
        return torch.cat([x, self.grow(self.post(y).relu())], 1)


class DenseNet(nn.Module):
    """Three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.finish = nn.BatchNorm2d(20, eps=1.001e-5)
        self.begin = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.dense = nn.Sequential(*(Dense(ins) for ins in (8, 12, 16)))
        self.out = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.finish(self.dense(self.begin(x))).relu().mean((2, 3)))


def resnet_pairs() -> dict[str, str]:
    """Convolutions and norms are numbered in one order by Keras, the shortcut after the three others."""
    order = ["stem.0"]
    for block in ("stage1.0", "stage1.1", "stage2.0", "stage2.1"):
        order += [f"{block}.{part}" for part in ("reduce", "spatial", "restore")]
        order += [f"{block}.skip.0"] if block.endswith("0") else []
    norms = {"0": "1", "reduce": "r_bn", "spatial": "s_bn", "restore": "e_bn"}
    pairs = {"classify": "dense"}
    for index, name in enumerate(order):
        before, _, last = name.rpartition(".")
        pairs |= {name: numbered("conv2d", index), f"{before}.{norms[last]}": numbered("batch_normalization", index)}
    return pairs


def mobilenet_pairs() -> dict[str, str]:
    """Names of the source by block and part."""
    pairs = {"first": "Conv1", "first_bn": "bn_Conv1", "out": "predictions"}
    for block in range(5):
        for index, part in enumerate(("expand", "depthwise", "project")):
            pairs[f"body.{block}.convs.{index}"] = f"block_{block}_{part}"
            pairs[f"body.{block}.bns.{index}"] = f"block_{block}_{part}_BN"
    return pairs


def efficientnet_pairs() -> dict[str, str]:
    """Names of the source by block and part."""
    parts = {
        "pw_in": "expand_conv", "n1": "expand_bn", "dw": "dwconv", "n2": "bn", "se.1": "se_reduce", "se.3": "se_expand",
        "pw_out": "project_conv", "n3": "project_bn",
    }  # fmt: skip
    pairs = {"entry.conv": "stem_conv", "entry.bn": "stem_bn", "out": "predictions"}
    return pairs | {f"stages.{i}.{ours}": f"block{i + 1}_{theirs}" for i in range(3) for ours, theirs in parts.items()}


def densenet_pairs() -> dict[str, str]:
    """Names of the source by block and part."""
    parts = {"pre": "0_bn", "squeeze": "1_conv", "post": "1_bn", "grow": "2_conv"}
    pairs = {"begin": "conv1_conv", "finish": "bn", "out": "predictions"}
    return pairs | {f"dense.{i}.{ours}": f"block{i + 1}_{theirs}" for i in range(3) for ours, theirs in parts.items()}


COUNTERPARTS = {
    "resnet": Counterpart(ResNet, resnet_pairs(), moved=True),
    "mobilenet": Counterpart(MobileNet, mobilenet_pairs(), moved=True),
    "efficientnet": Counterpart(EfficientNet, efficientnet_pairs(), moved=True),
    "densenet": Counterpart(DenseNet, densenet_pairs(), moved=True),
}
