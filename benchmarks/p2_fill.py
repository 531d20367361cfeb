"""P2: split and fill against the bare frozen forward over the same batches, resnet18 at 224 px."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from common import paired
from helpers_vision import import_torchvision


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """The paired median of (split + fill) / bare forward."""
    import_torchvision()
    import timm

    count, rounds = (64, 1) if is_quick else (2_000, 3)
    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False, num_classes=5).to(device)
    fl.freeze(model, through="global_pool")
    images = torch.randn(count, 3, 224, 224)
    dataset = TensorDataset(images, torch.arange(count) % 5)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            split = fl.split(model, images[:4].to(device))
            fl.FeatureCache(folder).fill(split, dataset, batch_size=32, progress=False)

    body = nn.Sequential(*list(model.children())[:-1]).eval()

    def bare() -> None:
        with torch.no_grad():
            for part in images.split(32):
                body(part.to(device))

    body(images[:32].to(device))
    return {"images": count, "(split + fill) / bare forward": paired(ours, bare, rounds, device)}
