"""Networks of the benchmarks, in blocks one after the other, with weights as they are drawn."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

_WIDTHS = (32, 48, 64, 96, 128, 128)


class Network(nn.Module):
    """Blocks, the mean over places, an output layer."""

    def __init__(self, blocks: list[nn.Module], num_classes: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images (B, C, H, W)."""
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)) if x.dim() == 4 else x.mean(1))


def convolutions(num_classes: int) -> nn.Module:
    """Six blocks of a convolution, BatchNorm and ReLU, and an output layer."""
    torch.manual_seed(0)
    pairs = zip((1, *_WIDTHS), _WIDTHS, strict=False)
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, 2 if at in (2, 4) else 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
        for at, (a, b) in enumerate(pairs)
    ]
    return Network(blocks, num_classes, _WIDTHS[-1])


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, as in He et al. 2015, figure 2."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.short = nn.Identity()
        if stride > 1:
            self.short = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of the width, at the stride."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.short(x))


def resnet18(num_classes: int) -> nn.Module:
    """The stem stands in the first of its eight blocks."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    pairs = ((64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
    blocks = [BasicBlock(a, b, 1 if a == b else 2) for a, b in pairs]
    return Network([nn.Sequential(stem, blocks[0]), *blocks[1:]], num_classes, 512)


class Patches(nn.Module):
    """Patches of 16 pixels as tokens, with places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.places = nn.Conv2d(3, width, 16, 16), nn.Parameter(0.02 * torch.randn(1, 196, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, 196, width)."""
        return self.conv(x).flatten(2).transpose(1, 2) + self.places


def vit_tiny(num_classes: int) -> nn.Module:
    """The sizes of Touvron et al. 2021, table 1; the patches stand in the first of its twelve blocks."""
    torch.manual_seed(0)
    blocks = [
        nn.TransformerEncoderLayer(192, 3, 768, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(12)
    ]
    return Network([nn.Sequential(Patches(192), blocks[0]), *blocks[1:]], num_classes, 192)
