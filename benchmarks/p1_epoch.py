"""P1: a cached epoch against the ideal loop over features in memory; beside it, DataLoader over tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from common import paired

D, C = 512, 10


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Ratios of one run, medians of paired rounds."""
    count, rounds = (5_000, 3) if is_quick else (50_000, 7)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, C)).to(device)
    fl.freeze(model, through="1")
    inputs, targets = torch.randn(count, D), torch.randint(0, C, (count,))
    split = fl.split(model, inputs[:4].to(device))
    with tempfile.TemporaryDirectory() as folder:
        data = fl.FeatureCache(folder).fill(split, TensorDataset(inputs, targets), batch_size=512, progress=False)
        features = torch.cat([split.extract(part)[0] for part in inputs.split(1000)]).contiguous()
        on_device = (features, targets.to(device))
        loader = data.loader(256, shuffle=True, device=device)
        tensors = TensorDataset(features.cpu(), targets)
        ideal = lambda: _train(_ideal_batches(*on_device), device)  # noqa: E731
        figures = {
            "cached epoch / ideal": paired(
                lambda: _train(((f[0], t) for f, t in loader), device), ideal, rounds, device
            )
        }
        for workers in (0, 2):
            plain = DataLoader(tensors, batch_size=256, shuffle=True, num_workers=workers)
            name = f"TensorDataset + DataLoader, {workers} workers / ideal"
            figures[name] = paired(lambda plain=plain: _train(plain, device), ideal, 3, device)
    return {"rows": count, "device": device, **figures}


def _ideal_batches(features: Tensor, targets: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(features), device=features.device)
    for start in range(0, len(features), 256):
        index = order[start : start + 256]
        yield features[index], targets[index]


def _train(batches: Iterable[Any], device: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(D, C).to(device)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for features, target in batches:
        loss = F.cross_entropy(layer(features.to(device)), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
