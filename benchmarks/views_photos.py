"""Random augmentation of photographs: accuracy and time by the number of views, against fresh in every epoch."""

from __future__ import annotations

import sys
from typing import Any

import torch
from common import ROOT
from torch import Tensor
from torch.nn import functional as F
from views import Images, Task, accuracies

OF_EACH_CLASS = 25
THROUGH = "_blocks.10"  # the five blocks above it, a convolution and the output layer train
EPOCHS = 32


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """EfficientNet-Lite0 with its ImageNet weights on photographs of six categories (stamps of Tux Paint), 64 px."""
    torch.set_num_threads(1)
    seeds, epochs, counts = (1, 2, (1, 2)) if is_quick else (3, EPOCHS, (1, 2, 4, 8, 16, 32))
    return accuracies(_tasks(seeds), epochs, counts)


def _tasks(num_seeds: int) -> list[Task]:
    sys.path.insert(0, str(ROOT / "docs" / "claims"))
    from depth_tasks import photo_tasks

    (task,) = photo_tasks(ROOT / ".claims", 400, ("stamps by category",))
    images, labels = torch.cat([task.train_NCHW, task.test_NCHW]), torch.cat([task.train_labels, task.test_labels])
    network = task.source()
    found: list[Task] = []
    for seed in range(num_seeds):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        chosen = torch.cat([order[labels[order] == label][:OF_EACH_CLASS] for label in range(task.num_classes)])
        is_left = torch.ones(len(labels), dtype=torch.bool)
        is_left[chosen] = False
        train = Images(images[chosen], labels[chosen], _cropped)
        found.append(Task(network, THROUGH, train, (images[is_left], labels[is_left]), 1e-3, head="_fc"))
    return found


def _cropped(image_CHW: Tensor) -> Tensor:
    """A random part of an image, of at least half its area, resized to its size, and mirrored every other time."""
    side = image_CHW.shape[-1]
    share, right, down, is_mirrored = torch.rand(4).tolist()
    part = max(1, round(side * (0.5 + 0.5 * share) ** 0.5))
    left, top = int(right * (side - part + 1)), int(down * (side - part + 1))
    cut = image_CHW[None, :, top : top + part, left : left + part]
    resized = F.interpolate(cut, (side, side), mode="bilinear", antialias=True)[0]
    return resized.flip(2) if is_mirrored < 0.5 else resized
