"""Networks, targets and taps for tests of the selection."""

import numpy as np
import torch
from torch import nn

from frostline.selection import targets_from


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width=8):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class ResNet(nn.Module):
    """A stem, three residual blocks, an output layer."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Residual(), Residual(), Residual())
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(self.blocks(self.bn(self.conv(x)).relu()).mean((2, 3)))


class OutOfOrder(nn.Module):
    """Its last layer is registered first."""

    def __init__(self):
        super().__init__()
        self.top = nn.Linear(6, 2)
        self.low, self.middle = nn.Linear(4, 5), nn.Linear(5, 6)

    def forward(self, x):
        return self.top(self.middle(self.low(x).relu()).relu())


def images(count=60, classes=3, seed=0):
    """Images whose class is the channel that is brightest; (inputs, targets)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    x = torch.randn(count, 3, 8, 8, generator=generator)
    x[torch.arange(count), y] += 1.0
    return x, y


def class_targets(count=60, classes=3):
    return targets_from(torch.arange(count) % classes)


def informative(count=60, classes=3, width=6, spread=0.3, seed=0):
    """(N, D) features whose first columns are the class, with noise."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, width)) * spread
    rows[np.arange(count), np.arange(count) % classes] += 1
    return rows
