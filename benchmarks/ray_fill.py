"""A fill on a Ray cluster of this machine: two workers against one, over a frozen part that holds one core."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
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
    """One worker's time, divided by that of the slower one of two, the start of the workers left out.

    By the clock, and by the processor time of the workers, which says the same of two free cores where others use them.
    """
    del device
    import ray

    torch.set_num_threads(1)
    model = Network()
    fl.freeze(model, through="frozen")
    split, images = fl.split(model, torch.randn(4, 3, SIZE, SIZE)), torch.randn(32, 3, SIZE, SIZE)
    split.extract(images)
    started = time.process_time()
    split.extract(images)
    count = int((5 if is_quick else 40) / ((time.process_time() - started) / len(images)))
    took: dict[int, tuple[float, float]] = {}
    for workers in (1, 2):
        ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
        try:
            short, whole = (_fill(split, number) for number in (32 * workers, count))
        finally:
            ray.shutdown()
        took[workers] = whole[0] - short[0], max(whole[1]) - max(short[1])
    return {
        "samples": count,
        "seconds of the clock, one worker": took[1][0], "seconds of the clock, two workers": took[2][0],
        "two workers against one, by the clock": took[1][0] / took[2][0],
        "processor seconds, one worker": took[1][1], "processor seconds, the slower of two workers": took[2][1],
        "two workers against one, by processor time": took[1][1] / took[2][1],
    }  # fmt: skip


def _fill(split: Any, count: int) -> tuple[float, list[float]]:
    """(seconds of the clock, processor seconds of each worker)."""
    with tempfile.TemporaryDirectory() as root, _Watched() as watched:
        started = time.perf_counter()
        data = fl.FeatureCache(root, engine="ray").fill(split, Images(count), progress=False)
        assert data.figures.computed == count
        return time.perf_counter() - started, list(watched.seconds.values())


class _Watched:
    """Processor seconds of the builders that run meanwhile, by process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.1):
            for folder in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if folder.stat().st_uid == os.getuid() and b"ray::Builder" in (folder / "cmdline").read_bytes():
                        ticks = (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
                        self.seconds[folder.name] = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
