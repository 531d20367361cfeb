"""A small task, a small network, and fit without a progress bar."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl

D, N = 6, 48


def data(count: int = N) -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(count, D, generator=generator)
    return TensorDataset(inputs, (inputs.sum(1) > 0).long())


def mlp() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.Dropout(0.3),
                         nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))  # fmt: skip


def fit(model, train=None, val=None, **options):
    options.setdefault("progress", False)
    return fl.fit(model, train if train is not None else data(), val, **options)
