"""Random augmentation: accuracy and time by the number of views, against fresh augmentation in every epoch."""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import frostline as fl

SIDE, BATCH, OF_EACH_CLASS = 32, 25, 10
WIDTHS = (32, 64, 96, 128)


@dataclass(frozen=True)
class Task:
    """What is trained: a pretrained network, frozen through a layer, on few images; accuracy on others.

    Attributes:
        network: It is copied for each run.
        through: The last frozen layer.
        train: At random moved, or as they are.
        test: Images (N, C, H, W) and labels (N,).
        lr: Of AdamW.
        head: The output layer, where it cannot be found.
    """

    network: nn.Module
    through: str
    train: Images
    test: tuple[Tensor, Tensor]
    lr: float
    head: str | None = None

    @property
    def num_classes(self) -> int:
        """Classes."""
        return int(self.train.labels.max()) + 1


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Accuracy on test digits, processor time of whole runs, and losses of the same views with a cache and without."""
    torch.set_num_threads(1)
    seeds, epochs, counts = (1, 4, (1, 2)) if is_quick else (3, 64, (1, 2, 4, 8, 16, 32))
    images, labels = _digits()
    pretrained = _pretrained(images[labels < 5], labels[labels < 5], 1 if is_quick else 8)
    tasks = [_task(pretrained, images[labels >= 5], labels[labels >= 5] - 5, seed) for seed in range(seeds)]
    return accuracies(tasks, epochs, counts) | _time_by_epoch(tasks[0])


def accuracies(tasks: list[Task], epochs: int, counts: tuple[int, ...]) -> dict[str, Any]:
    """Accuracy and time by the number of views, and how far losses of cached and uncached runs are apart."""
    ways = {"no augmentation": (False, None, True), **{f"views={count}": (True, count, True) for count in counts},
            "fresh in every epoch, uncached": (True, None, False)}  # fmt: skip
    rows = {way: [_trained(task, epochs, *options) for task in tasks] for way, options in ways.items()}
    fresh_s = statistics.fmean(row["processor_s"] for row in rows["fresh in every epoch, uncached"])
    figures: dict[str, Any] = {
        "runs of each row": f"{len(tasks)}, of {epochs} epochs over {len(tasks[0].train)} images"
    }
    for way, found in rows.items():
        values = [row["accuracy"] for row in found]
        error = statistics.stdev(values) / math.sqrt(len(tasks)) if len(tasks) > 1 else 0.0
        share = statistics.fmean(row["processor_s"] for row in found) / fresh_s
        figures[f"{way}: accuracy; processor time / that of fresh augmentation"] = (
            f"{statistics.fmean(values):.3f} +- {error:.3f}; {share:.2f}"
        )
    few = min(4, counts[-1])
    cached, uncached = (_trained(tasks[0], epochs, True, few, is_cached) for is_cached in (True, False))
    pairs = zip(cached["losses"], uncached["losses"], strict=True)
    figures[f"views={few}: largest relative difference of a loss, cached and uncached"] = max(
        abs(one - other) / other for one, other in pairs
    )
    return figures


def _trained(task: Task, epochs: int, is_random: bool, views: int | None, is_cached: bool) -> dict[str, Any]:
    """One run: accuracy on the test images, seconds of processor time, losses."""
    model = copy.deepcopy(task.network)
    torch.manual_seed(0)
    fl.replace_head(model, task.num_classes, name=task.head)
    fl.freeze(model, through=task.through)
    train = Images(task.train.images, task.train.labels, task.train.moved if is_random else None)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        result = fl.fit(model, train, epochs=epochs, batch_size=BATCH, lr=task.lr, views=views,
                        cache=folder if is_cached else False, monitor=False, progress=False)  # fmt: skip
        processor_s = time.process_time() - started
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(images).argmax(dim=1) for images in task.test[0].split(100)])
    return {"accuracy": float((found == task.test[1]).float().mean()), "processor_s": processor_s,
            "losses": [epoch.train_loss for epoch in result.history]}  # fmt: skip


def _time_by_epoch(task: Task) -> dict[str, Any]:
    """An epoch over stored views against one over features that were stored without views: the same bytes are read."""
    model = copy.deepcopy(task.network)
    fl.freeze(model, through=task.through)
    split = fl.split(model, torch.stack([task.train[at][0] for at in range(4)]))
    with tempfile.TemporaryDirectory() as folder:
        cache = fl.FeatureCache(folder)
        plain = cache.fill(split, Images(task.train.images, task.train.labels, None), progress=False)
        viewed = cache.fill(split, task.train, views=8, progress=False)
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


class Images(Dataset):
    """Images in memory, changed at random as they are read.

    Args:
        images: (N, C, H, W).
        labels: (N,).
        moved: Gives an image (C, H, W) changed at random; None leaves all as they are.
    """

    def __init__(self, images: Tensor, labels: Tensor, moved: Callable[[Tensor], Tensor] | None) -> None:
        self.images, self.labels, self.moved = images, labels, moved

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return (image if self.moved is None else self.moved(image)), int(self.labels[index])


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


def _task(pretrained: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Task:
    """A few training digits of each class, all others for the test."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == label][:OF_EACH_CLASS] for label in range(5)])
    is_left = torch.ones(len(labels), dtype=torch.bool)
    is_left[chosen] = False
    train = Images(images[chosen], labels[chosen], _moved)
    return Task(pretrained, "2", train, (images[is_left], labels[is_left]), 2e-3)


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
