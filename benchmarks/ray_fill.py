"""A fill on a Ray cluster of this machine: two workers against one, over a frozen part that holds one core."""

from __future__ import annotations

import os
import tempfile
import time
from multiprocessing import get_context
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
    """Images that are made when they are read; each process notes its processor time at its first and last image."""

    def __init__(self, count: int, folder: Path) -> None:
        self.count, self.folder = count, folder

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with open(self.folder / str(os.getpid()), "a") as file:
            file.write(f"{time.process_time()} {time.time()}\n")
        return torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(index)), index % 4


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """The time of one worker, divided by that of the slower one of two, from the first image to the last.

    By the clock, and by the processor time of the workers, which says the same of two free cores where others use them.
    Beside it, the same frozen part in one process and in two, without a cache or a cluster: what two cores of this
    machine give at most.
    """
    del device
    torch.set_num_threads(1)
    row_s = _plain(32, 0.0) / 32
    figures = dict[str, Any]()
    for seconds in (5,) if is_quick else (30, 120):
        count = int(seconds / row_s)
        figures |= {f"{name}, {seconds} s of work": own for name, own in _compared(count).items()}
    return figures


def _compared(count: int) -> dict[str, Any]:
    import ray

    model = Network()
    fl.freeze(model, through="frozen")
    split = fl.split(model, torch.randn(4, 3, SIZE, SIZE))
    took: dict[int, tuple[float, list[float]]] = {}
    for workers in (1, 2):
        ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
        try:
            took[workers] = _fill(split, count)
        finally:
            ray.shutdown()
    alone = _in_processes(1, count)[0]
    both = max(_in_processes(2, count // 2))
    return {
        "samples": count, "seconds of the clock, one worker": took[1][0],
        "seconds of the clock, two workers": took[2][0],
        "two workers against one, by the clock": took[1][0] / took[2][0],
        "processor seconds, one worker": took[1][1][0], "processor seconds, two workers": took[2][1],
        "two workers against one, by processor time": took[1][1][0] / max(took[2][1]),
        "two plain processes against one, by processor time": alone / both,
    }  # fmt: skip


def _in_processes(number: int, count: int) -> list[float]:
    """Processor seconds of each of so many processes that run the frozen part alone for so many images, at once."""
    begin = time.time() + 10.0
    with get_context("spawn").Pool(number) as pool:
        return pool.starmap(_plain, [(count, begin)] * number, chunksize=1)


def _plain(count: int, begin: float) -> float:
    """Processor seconds of the frozen part for so many images, in batches of 32, from a time of the clock on."""
    torch.set_num_threads(1)
    frozen, images = Network().frozen, torch.randn(32, 3, SIZE, SIZE)
    with torch.no_grad():
        frozen(images)
        time.sleep(max(0.0, begin - time.time()))
        started = time.process_time()
        for _ in range(-(-count // len(images))):
            frozen(images)
    return time.process_time() - started


def _fill(split: Any, count: int) -> tuple[float, list[float]]:
    """(seconds of the clock, processor seconds of each worker), from the first image to the last."""
    with tempfile.TemporaryDirectory() as root:
        notes = Path(root) / "notes"
        notes.mkdir()
        data = fl.FeatureCache(Path(root) / "features", engine="ray").fill(split, Images(count, notes), progress=False)
        assert data.figures.computed == count
        (notes / str(os.getpid())).unlink(missing_ok=True)  # of this process, which reads a few to prove them
        told = [[tuple(map(float, line.split())) for line in own.read_text().splitlines()] for own in notes.iterdir()]
    begun, ended = min(own[0][1] for own in told), max(own[-1][1] for own in told)
    return ended - begun, [own[-1][0] - own[0][0] for own in told]
