"""The peers of P3: the same frozen resnet18 and JPEG files behind `torchcache` and `torch-module-cache`.

Both keep a cache beside a module that is called every epoch, so the image is decoded every epoch. One cold and one warm
epoch are timed, and scaled to 20. Without the packages nothing is measured, and that is said.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from common import seconds


def twenty_epochs(body: nn.Module, head: nn.Linear, data: Any, device: str, epochs: int) -> dict[str, float | str]:
    """Seconds for all epochs, by peer."""
    found: dict[str, float | str] = {}
    for name, build in (("torchcache", _torchcache), ("torch-module-cache", _module_cache)):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            try:
                cached = build(body, device)
            except ImportError as error:
                found[name] = f"not measured: {error}"
                continue
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                run = lambda c=cached: _epoch(c, head, data, device)  # noqa: E731
                cold, warm = seconds(run, device), seconds(run, device)
            found[name] = cold + (epochs - 1) * warm
    return found


def _torchcache(body: nn.Module, device: str) -> Callable[[Tensor, list[str]], Tensor]:
    from torchcache import torchcache

    @torchcache(persistent=False)
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, images: Tensor) -> Tensor:
            return self.body(images)

    cached = Cached().to(device).eval()
    return lambda images, _: cached(images)


def _module_cache(body: nn.Module, device: str) -> Callable[[Tensor, list[str]], Tensor]:
    from torch_module_cache import cache_module

    @cache_module()
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, images: Tensor) -> Tensor:
            return self.body(images)

    cached = Cached().to(device).eval()
    return lambda images, keys: cached(images, cache_key=keys)


def _epoch(cached: Callable[[Tensor, list[str]], Tensor], head: nn.Linear, data: Any, device: str) -> None:
    optimizer = torch.optim.AdamW(head.parameters())
    for start in range(0, len(data), 32):
        indices = range(start, min(start + 32, len(data)))
        images = torch.stack([data[index][0] for index in indices]).to(device)
        labels = torch.tensor([data.labels[index] for index in indices], device=device)
        with torch.no_grad():
            features = cached(images, [str(index) for index in indices])
        nn.functional.cross_entropy(head(features.to(device)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
