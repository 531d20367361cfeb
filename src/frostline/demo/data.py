"""Scikit-learn's digits, real scans of handwriting, as two tasks: the source's digits and the target's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from frostline.core.io import make_folder
from frostline.core.new_files import write_atomic
from frostline.data import Arrays

_TEST_SHARE = 0.3
_SIDE, _PLACED_SIDE = 32, 20  # pixels of a field, and of a scan that is put anywhere in it


def load_digits_task(digits: range) -> tuple[Arrays, Arrays]:
    """(training images, held-out images) of these digits, enlarged from 8x8 to (1, 32, 32), values 0 to 1.

    The held-out share is chosen once, the same in every run, and is used for nothing but the final accuracy.
    """
    train, test = _scans(digits, _SIDE)
    return Arrays(*train), Arrays(*test)


def load_placed_task(digits: range, copies: int = 1) -> tuple[Arrays, Arrays]:
    """As `load_digits_task`, but enlarged to 20x20 and put at a place of the (1, 32, 32) field that is drawn once.

    Args:
        digits: The classes.
        copies: How often each training image occurs, at a place of its own.
    """
    generator = torch.Generator().manual_seed(digits.start)
    tasks: list[Arrays] = []
    for (images, labels), count in zip(_scans(digits, _PLACED_SIDE), (copies, 1), strict=True):
        images, labels = images.repeat(count, 1, 1, 1), labels.repeat(count)
        fields = torch.zeros(len(images), 1, _SIDE, _SIDE)
        places = torch.randint(_SIDE - _PLACED_SIDE + 1, (len(images), 2), generator=generator).tolist()
        for field, image, (top, left) in zip(fields, images, places, strict=True):
            field[:, top : top + _PLACED_SIDE, left : left + _PLACED_SIDE] = image
        tasks.append(Arrays(fields, labels))
    return tasks[0], tasks[1]


def _scans(digits: range, side: int) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """(images (N, 1, side, side), labels (N,)) to train on, and held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans: Any = load_digits()
    chosen = np.isin(scans.target, list(digits))
    images = torch.tensor(scans.images[chosen, None] / 16, dtype=torch.float32)
    images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    labels = torch.tensor(scans.target[chosen] - digits.start)
    train, test = train_test_split(np.arange(len(labels)), test_size=_TEST_SHARE, random_state=0, stratify=labels)
    return (images[train], labels[train]), (images[test], labels[test])


def accuracy(model: nn.Module, test: Arrays) -> float:
    """Share of the held-out images that the model, left in eval mode, answers right."""
    model.eval()
    with torch.no_grad():
        device = next(model.parameters(), test.inputs).device
        answers = model(test.inputs.to(device)).argmax(dim=1).cpu()
    return float((answers == test.labels).float().mean())


def few_per_class(task: Arrays, count: int | None, seed: int) -> Arrays:
    """So many images of every class, chosen by the seed; None: all of them."""
    if count is None:
        return task
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.cat(
        [
            own[torch.randperm(len(own), generator=generator)[:count]]
            for own in ((task.labels == label).nonzero().squeeze(1) for label in task.labels.unique())
        ]
    )
    return Arrays(task.inputs[chosen], task.labels[chosen])


def save_arrays(path: Path, task: Arrays) -> None:
    """The task as an .npz that `frostline fit` takes."""
    import io

    make_folder(path.parent)
    buffer = io.BytesIO()
    np.savez(buffer, x=task.inputs.numpy(), y=task.labels.numpy())
    write_atomic(path, [buffer.getvalue()])
