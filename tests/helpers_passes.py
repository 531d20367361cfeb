"""A small convolution network with running statistics of data, and a dataset for it."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.bn(self.conv(x)).relu()


def network() -> nn.Sequential:
    """Two blocks, a pool and an output layer."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip
    for _ in range(3):
        model(torch.randn(8, 3, 16, 16) * 2 + 1)
    return model.eval()


def images(count: int = 24) -> TensorDataset:
    """Images of three classes."""
    inputs = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return TensorDataset(inputs, torch.arange(count) % 3)
