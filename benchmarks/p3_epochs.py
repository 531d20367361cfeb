"""P3: 20 epochs on JPEG files with a frozen resnet18: cached, uncached, and the theoretical speed-up.

The uncached loop is timed for two epochs and scaled: it costs the same every epoch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import frostline as fl
from common import seconds
from frostline.data import ImageFolder
from helpers_vision import import_torchvision
from peers import twenty_epochs

EPOCHS = 20


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Speed-ups over the uncached loop, decoding in both."""
    import_torchvision()
    count, size = (80, 224) if is_quick else (2_000, 224)
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder) / "data", count, size)
        data = ImageFolder(Path(folder) / "data")
        _warm_up(data, device)
        uncached_s = seconds(lambda: _fit(data, device, 2, cache=False), device) / 2 * EPOCHS
        frozen_s, head_s = _parts(data, device)
        theory = EPOCHS * (frozen_s + head_s) / (frozen_s + EPOCHS * head_s)
        figures: dict[str, Any] = {"images": count, "device": device, "uncached, 20 epochs, s": uncached_s}
        for name, channels_last in (("plain", False), ("channels last", True)):
            cached_s = seconds(
                lambda c=channels_last, n=name: _fit(data, device, EPOCHS, cache=Path(folder) / n, channels_last=c),
                device,
            )
            figures[f"cached, {name}, s"] = cached_s
            figures[f"speed-up, {name}"] = uncached_s / cached_s
            figures[f"speed-up / theory, {name}"] = uncached_s / cached_s / theory
        figures["theory E(F+H)/(F+EH)"] = theory
        model = _model(device).eval()
        body = nn.Sequential(*list(model.children())[:-1])
        for name, value in twenty_epochs(body, model.fc, data, device, EPOCHS).items():
            figures[f"{name}, s"] = value
            figures[f"speed-up, {name}"] = uncached_s / value if isinstance(value, float) else "-"
    return figures


def _model(device: str, *, channels_last: bool = False) -> Any:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet18", pretrained=False, num_classes=5)
    fl.freeze(model, through="global_pool")
    return model.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _fit(data: Any, device: str, epochs: int, *, cache: Any, channels_last: bool = False) -> None:
    fl.fit(_model(device, channels_last=channels_last), data, epochs=epochs, batch_size=32, cache=cache, progress=False)


def _warm_up(data: Any, device: str) -> None:
    """Imports and first kernels, which take seconds: scaled with the uncached loop, they would count ten times."""
    few = torch.utils.data.Subset(data, range(64))
    with tempfile.TemporaryDirectory() as folder:
        _fit(few, device, 1, cache=False)
        _fit(few, device, 1, cache=folder)


def _parts(data: Any, device: str) -> tuple[float, float]:
    """(decoding and frozen forward of an epoch, the head's step of an epoch), in seconds."""
    model = _model(device).eval()
    count = min(len(data), 320)
    features: list[torch.Tensor] = []
    optimizer = torch.optim.AdamW(model.fc.parameters())

    @torch.no_grad()
    def run_frozen() -> None:
        for start in range(0, count, 32):
            batch = torch.stack([data[index][0] for index in range(start, min(start + 32, count))]).to(device)
            features.append(model.forward_head(model.forward_features(batch), pre_logits=True))

    def train_head() -> None:
        for part in features:
            target = torch.zeros(len(part), dtype=torch.long, device=device)
            nn.functional.cross_entropy(model.fc(part), target).backward()
            optimizer.step()
            optimizer.zero_grad()

    scale = len(data) / count
    return scale * seconds(run_frozen, device), scale * seconds(train_head, device)


def _write_images(folder: Path, count: int, size: int) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for index in range(count):
        target = folder / f"class{index % 5}"
        target.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 255, (size // 8, size // 8, 3), np.uint8)
        Image.fromarray(small).resize((size, size)).save(target / f"{index}.jpg", quality=90)
