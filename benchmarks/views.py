"""Random augmentation: accuracy and time by the number of views, against fresh augmentation in every epoch."""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
import time
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import frostline as fl

SIDE, BATCH, OF_EACH_CLASS = 32, 25, 10
WIDTHS = (32, 64, 96, 128)


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Accuracy on test digits, processor time of whole runs, and losses of the same views with a cache and without."""
    torch.set_num_threads(1)
    seeds, epochs, counts = (1, 4, (1, 2)) if is_quick else (3, 64, (1, 2, 4, 8, 16, 32))
    images, labels = _digits()
    pretrained = _pretrained(images[labels < 5], labels[labels < 5], 1 if is_quick else 8)
    tasks = [_task(images[labels >= 5], labels[labels >= 5] - 5, seed) for seed in range(seeds)]
    ways = {"no augmentation": (False, None, True), **{f"views={count}": (True, count, True) for count in counts},
            "fresh in every epoch, uncached": (True, None, False)}  # fmt: skip
    rows = {way: [_trained(pretrained, *task, epochs, *options) for task in tasks] for way, options in ways.items()}
    fresh_s = statistics.fmean(row["processor_s"] for row in rows["fresh in every epoch, uncached"])
    figures: dict[str, Any] = {"runs of each row": f"{seeds}, of {epochs} epochs over {5 * OF_EACH_CLASS} digits"}
    for way, found in rows.items():
        accuracies = [row["accuracy"] for row in found]
        error = statistics.stdev(accuracies) / math.sqrt(seeds) if seeds > 1 else 0.0
        share = statistics.fmean(row["processor_s"] for row in found) / fresh_s
        figures[f"{way}: accuracy; processor time / that of fresh augmentation"] = (
            f"{statistics.fmean(accuracies):.3f} +- {error:.3f}; {share:.2f}"
        )
    few = counts[-1] if is_quick else 4
    cached, uncached = (_trained(pretrained, *tasks[0], epochs, True, few, is_cached) for is_cached in (True, False))
    pairs = zip(cached["losses"], uncached["losses"], strict=True)
    figures[f"views={few}: largest relative difference of a loss, cached and uncached"] = max(
        abs(one - other) / other for one, other in pairs
    )
    return figures | _time_by_epoch(pretrained, tasks[0], epochs)


def _trained(
    pretrained: nn.Module, train: Digits, test: tuple[Tensor, Tensor], epochs: int, is_random: bool, views: int | None,
    is_cached: bool,
) -> dict[str, Any]:  # fmt: skip
    """One run: accuracy on the test digits, seconds of processor time, losses."""
    model = copy.deepcopy(pretrained)
    torch.manual_seed(0)
    fl.replace_head(model, 5)
    fl.freeze(model, through="2")
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        result = fl.fit(model, Digits(train.images, train.labels, is_random), epochs=epochs, batch_size=BATCH, lr=2e-3,
                        views=views, cache=folder if is_cached else False, monitor=False, progress=False)  # fmt: skip
        processor_s = time.process_time() - started
    with torch.no_grad():
        found = model.eval()(test[0]).argmax(dim=1)
    return {"accuracy": float((found == test[1]).float().mean()), "processor_s": processor_s,
            "losses": [epoch.train_loss for epoch in result.history]}  # fmt: skip


def _time_by_epoch(pretrained: nn.Module, task: tuple[Digits, Any], epochs: int) -> dict[str, Any]:
    """An epoch over stored views against one over features that were stored without views: the same bytes are read."""
    model = copy.deepcopy(pretrained)
    fl.freeze(model, through="2")
    split = fl.split(model, torch.stack([task[0][at][0] for at in range(4)]))
    with tempfile.TemporaryDirectory() as folder:
        cache = fl.FeatureCache(folder)
        plain = cache.fill(split, Digits(task[0].images, task[0].labels, False), progress=False)
        viewed = cache.fill(split, task[0], views=8, progress=False)
        loaders = [data.loader(BATCH, shuffle=True) for data in (viewed, plain)]
        ratios = []
        for _ in range(30):
            spent = []
            for loader in loaders:
                started = time.process_time()
                for _ in range(8):
                    for features, _ in loader:
                        split.head(*features)
                spent.append(time.process_time() - started)
            ratios.append(spent[0] / spent[1])
    return {"an epoch over views=8 / without views (median)": statistics.median(ratios)}


class Digits(Dataset):
    """Digits of 32 x 32 pixels, turned, moved and resized at random.

    Args:
        images: (N, 1, 32, 32).
        labels: (N,).
        is_random: False leaves them as they are.
    """

    def __init__(self, images: Tensor, labels: Tensor, is_random: bool = True) -> None:
        self.images, self.labels, self.is_random = images, labels, is_random

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return (_moved(image) if self.is_random else image), int(self.labels[index])


def _moved(image: Tensor) -> Tensor:
    """The digit turned by up to 20 degrees, resized by up to a fifth, and moved by up to an eighth of the side."""
    angle, size, right, down = (2 * torch.rand(4) - 1).tolist()
    angle, size = math.radians(20 * angle), 1 + 0.2 * size
    cosine, sine = size * math.cos(angle), size * math.sin(angle)
    matrix = torch.tensor([[[cosine, -sine, right / 4], [sine, cosine, down / 4]]])
    grid = F.affine_grid(matrix, [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0]


def _digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    return F.interpolate(images, SIDE, mode="bilinear"), torch.tensor(found.target)


def _task(images: Tensor, labels: Tensor, seed: int) -> tuple[Digits, tuple[Tensor, Tensor]]:
    """(a few training digits of each class, all others for the test)."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == label][:OF_EACH_CLASS] for label in range(5)])
    is_left = torch.ones(len(labels), dtype=torch.bool)
    is_left[chosen] = False
    return Digits(images[chosen], labels[chosen]), (images[is_left], labels[is_left])


def _pretrained(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """A small network that knows the digits 0 to 4."""
    torch.manual_seed(0)
    channels, blocks = 1, list[nn.Module]()
    for width in WIDTHS:
        blocks.append(nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                                    nn.MaxPool2d(2)))  # fmt: skip
        channels = width
    model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * (SIDE // 2 ** len(WIDTHS)) ** 2, 5))
    fl.fit(model, torch.utils.data.TensorDataset(images, labels), epochs=epochs, batch_size=BATCH, progress=False,
           monitor=False)  # fmt: skip
    return model
