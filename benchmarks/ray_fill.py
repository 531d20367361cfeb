"""A fill on a Ray cluster of this machine: two workers against one, over a frozen part that holds one core."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from torch import nn

import frostline as fl

SIZE = 64


class Network(nn.Module):
    """Convolutions of which all but the last layer are frozen."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
        self.frozen, self.head = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(64, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 4) logits."""
        return self.head(self.frozen(images))


class Images:
    """Images that are made when they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(index)), index % 4


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Samples per second of one worker and of two, the start of the workers left out, and their ratio."""
    del device
    import ray

    torch.set_num_threads(1)
    model = Network()
    fl.freeze(model, through="frozen")
    split, images = fl.split(model, torch.randn(4, 3, SIZE, SIZE)), torch.randn(32, 3, SIZE, SIZE)
    split.extract(images)
    started = time.perf_counter()
    split.extract(images)
    count = int((5 if is_quick else 50) / ((time.perf_counter() - started) / len(images)))
    rates: dict[int, float] = {}
    whole: dict[int, float] = {}
    for workers in (1, 2):
        ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
        try:
            short, whole[workers] = (_seconds(split, number) for number in (32 * workers, count))
        finally:
            ray.shutdown()
        rates[workers] = (count - 32 * workers) / (whole[workers] - short)
    return {
        "samples": count, "samples per second, one worker": rates[1], "samples per second, two workers": rates[2],
        "two workers, times one worker": rates[2] / rates[1],
        "the same, with the start of the workers": whole[1] / whole[2],
    }  # fmt: skip


def _seconds(split: Any, count: int) -> float:
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        data = fl.FeatureCache(root, engine="ray").fill(split, Images(count), progress=False)
        assert data.figures.computed == count
        return time.perf_counter() - started
